import type { SecretBytes } from "@shelter/base";
import { CryptoError } from "../error.ts";
import { DerSequence, derInteger, derSequence } from "./der.ts";
import { type CurveParameters, Domain, type Point, SM2P256V1, toBytes, toNumber } from "./domain.ts";
import {
  ciphertextBytes,
  ciphertextDer,
  decrypt,
  encrypt,
  readCiphertext,
  readCiphertextDer,
} from "./encrypt.ts";
import { DEFAULT_IDENTITY, identityDigest, messageNumber, type Sm2Hash } from "./identity.ts";
import { nativeVerifier } from "./native.ts";
import { randomScalar, secretBaseMultiple, signNumber } from "./sign.ts";
import { verifyNumber } from "./verify.ts";

/** How a signature or a ciphertext is written: fixed-length numbers, or ASN.1 DER. */
export type Sm2Form = "raw" | "der";

/** Who signed, and how the signature is written. */
export interface Sm2SignatureOptions {
  /** The signer's user identity; by default the standard's `1234567812345678`. Empty is an identity too. */
  readonly identity?: Uint8Array;
  /** By default `raw`: r and s, 32 bytes each. */
  readonly form?: Sm2Form;
}

/** SM2 over one curve with one hash (GB/T 32918). */
export class Sm2 {
  readonly #parameters: CurveParameters;
  readonly #hash: Sm2Hash;
  #curve: Domain | undefined;

  constructor(parameters: CurveParameters = SM2P256V1, hash: Sm2Hash = "sm3") {
    this.#parameters = parameters;
    this.#hash = hash;
  }

  /** Made on first use: it takes milliseconds, which a command that never meets SM2 should not pay at its start. */
  get #domain(): Domain {
    this.#curve ??= new Domain(this.#parameters);
    return this.#curve;
  }

  /** ZA of a key and an identity, which stands before the message when it is hashed. */
  identityDigest(publicKey: Uint8Array, identity: Uint8Array = DEFAULT_IDENTITY): Uint8Array {
    return identityDigest(this.#domain, this.#hash, publicKey, identity);
  }

  /**
   * Whether the signature over the message holds for the 65-byte public key. A signature that does not hold or
   * is out of range is false; a key or an encoding that is none throws.
   */
  verify(
    publicKey: Uint8Array,
    message: Uint8Array,
    signature: Uint8Array,
    options: Sm2SignatureOptions = {},
  ): boolean {
    const point = this.#domain.readPoint(publicKey);
    const identity = options.identity ?? DEFAULT_IDENTITY;
    const e = messageNumber(this.#domain, this.#hash, publicKey, message, identity);
    return this.#verify(point, e, signature, options.form ?? "raw");
  }

  /** The same over a digest that already includes the identity. */
  verifyDigest(
    publicKey: Uint8Array,
    digest: Uint8Array,
    signature: Uint8Array,
    form: Sm2Form = "raw",
  ): boolean {
    return this.#verify(this.#domain.readPoint(publicKey), this.#digestNumber(digest), signature, form);
  }

  #verify(point: Point, e: bigint, signature: Uint8Array, form: Sm2Form): boolean {
    const numbers = readSignature(signature, form);
    return (
      nativeVerifier(this.#domain)?.verify(this.#domain, point, e, numbers) ??
      verifyNumber(this.#domain, point, e, numbers)
    );
  }

  /** Signs a message with a fresh random nonce. */
  sign(privateKey: SecretBytes, message: Uint8Array, options: Sm2SignatureOptions = {}): Uint8Array {
    const identity = options.identity ?? DEFAULT_IDENTITY;
    const e = messageNumber(this.#domain, this.#hash, this.publicKey(privateKey), message, identity);
    return this.#sign(privateKey, e, options.form ?? "raw");
  }

  /** Signs a digest that already includes the identity. */
  signDigest(privateKey: SecretBytes, digest: Uint8Array, form: Sm2Form = "raw"): Uint8Array {
    return this.#sign(privateKey, this.#digestNumber(digest), form);
  }

  #sign(privateKey: SecretBytes, e: bigint, form: Sm2Form): Uint8Array {
    const { r, s } = signNumber(this.#domain, this.#domain.readPrivateKey(privateKey.reveal()), e);
    return form === "der"
      ? derSequence(derInteger(r), derInteger(s))
      : Buffer.concat([toBytes(r), toBytes(s)]);
  }

  #digestNumber(digest: Uint8Array): bigint {
    if (digest.byteLength !== 32) {
      throw new CryptoError("SM2_SIGNATURE", `digest: expected 32 bytes, have ${digest.byteLength}`);
    }
    return toNumber(digest);
  }

  /** A new private key, 32 bytes. */
  generate(): Uint8Array {
    for (;;) {
      const d = randomScalar(this.#domain);
      if (d < this.#domain.n - 1n) return toBytes(d);
    }
  }

  /** The 65-byte public key of a private key. */
  publicKey(privateKey: SecretBytes): Uint8Array {
    return secretBaseMultiple(this.#domain, this.#domain.readPrivateKey(privateKey.reveal()));
  }

  /** Encrypts 1 byte to 1 MiB; `raw` is C1 || C3 || C2. */
  encrypt(publicKey: Uint8Array, message: Uint8Array, form: Sm2Form = "raw"): Uint8Array {
    const ciphertext = encrypt(this.#domain, this.#hash, this.#domain.readPoint(publicKey), message);
    return form === "der" ? ciphertextDer(ciphertext) : ciphertextBytes(ciphertext);
  }

  /** Decrypts; throws `SM2_CIPHERTEXT` of kind `refused` when the content was altered or is for another key. */
  decrypt(privateKey: SecretBytes, ciphertext: Uint8Array, form: Sm2Form = "raw"): Uint8Array {
    const d = this.#domain.readPrivateKey(privateKey.reveal());
    const parts = form === "der" ? readCiphertextDer(ciphertext) : readCiphertext(ciphertext);
    return decrypt(this.#domain, this.#hash, d, parts);
  }
}

function readSignature(bytes: Uint8Array, form: Sm2Form): { r: bigint; s: bigint } {
  if (form === "der") {
    const sequence = new DerSequence(bytes, "signature", "SM2_SIGNATURE");
    const r = sequence.integer();
    const s = sequence.integer();
    sequence.end();
    return { r, s };
  }
  if (bytes.byteLength !== 64) {
    throw new CryptoError("SM2_SIGNATURE", `signature: expected 64 bytes, have ${bytes.byteLength}`);
  }
  return { r: toNumber(bytes.subarray(0, 32)), s: toNumber(bytes.subarray(32)) };
}

/** SM2 as everyone uses it: the recommended curve and SM3. */
export const sm2: Sm2 = new Sm2();
