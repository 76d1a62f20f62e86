import {
  constants,
  createCipheriv,
  createECDH,
  createHmac,
  type KeyObject,
  publicEncrypt,
} from "node:crypto";
import { digest, hashSize, type TpmHash } from "./algorithm.ts";
import { TpmError } from "./error.ts";

/** An endorsement key as its template makes it (TCG EK Credential Profile 2.5, annex B). */
export interface EndorsementKey {
  readonly key: KeyObject;
  readonly nameAlg: TpmHash;
  readonly aesBits: 128 | 256;
}

/** What TPM2_ActivateCredential takes. */
export interface Credential {
  /** TPM2B_ID_OBJECT. */
  readonly credentialBlob: Uint8Array;
  /** TPM2B_ENCRYPTED_SECRET. */
  readonly encryptedSecret: Uint8Array;
}

const ECDH_CURVES: Readonly<Record<string, number>> = { prime256v1: 32, secp384r1: 48, secp521r1: 66 };

/**
 * The endorsement key behind a public key, with the hash and cipher of the standard template for it:
 * RSA-2048 (L-1) and P-256 (L-2) use SHA-256 and AES-128; RSA-3072, RSA-4096 and P-384 SHA-384 and
 * AES-256; P-521 SHA-512 and AES-256.
 */
export function endorsementKey(key: KeyObject): EndorsementKey {
  const { modulusLength, namedCurve } = key.asymmetricKeyDetails ?? {};
  if (key.asymmetricKeyType === "rsa") {
    if (modulusLength === 2048) return { key, nameAlg: "sha256", aesBits: 128 };
    if (modulusLength === 3072 || modulusLength === 4096) return { key, nameAlg: "sha384", aesBits: 256 };
  }
  if (key.asymmetricKeyType === "ec") {
    if (namedCurve === "prime256v1") return { key, nameAlg: "sha256", aesBits: 128 };
    if (namedCurve === "secp384r1") return { key, nameAlg: "sha384", aesBits: 256 };
    if (namedCurve === "secp521r1") return { key, nameAlg: "sha512", aesBits: 256 };
  }
  const what = `${key.asymmetricKeyType ?? "unknown"} ${modulusLength ?? namedCurve ?? ""}`;
  throw new TpmError("TPM_UNSUPPORTED", `no endorsement key template for ${what}`);
}

/**
 * The verifier's half of credential activation (TPM 2.0 part 1, section 24): only the TPM that holds
 * the endorsement key, and only with a key of exactly this name loaded, gets the secret back.
 * `random(n)` must give n fresh unpredictable bytes. Nothing here branches on secret values; the
 * arithmetic is OpenSSL's.
 */
export function makeCredential(
  ek: EndorsementKey,
  akName: Uint8Array,
  secret: Uint8Array,
  random: (count: number) => Uint8Array,
): Credential {
  const size = hashSize(ek.nameAlg);
  if (secret.length === 0 || secret.length > size) {
    throw new TpmError("TPM_UNSUPPORTED", `a secret of ${secret.length} bytes, 1 to ${size} fit`);
  }
  const { seed, encrypted } = ek.key.asymmetricKeyType === "rsa" ? rsaSeed(ek, random) : eccSeed(ek, random);
  const symmetricKey = kdfa(ek.nameAlg, seed, "STORAGE", akName, ek.aesBits);
  const cipher = createCipheriv(`aes-${ek.aesBits}-cfb`, symmetricKey, Buffer.alloc(16));
  const identity = Buffer.concat([cipher.update(tpm2b(secret)), cipher.final()]);
  const hmacKey = kdfa(ek.nameAlg, seed, "INTEGRITY", new Uint8Array(0), size * 8);
  const integrity = createHmac(ek.nameAlg, hmacKey).update(identity).update(akName).digest();
  return {
    credentialBlob: tpm2b(Buffer.concat([tpm2b(integrity), identity])),
    encryptedSecret: tpm2b(encrypted),
  };
}

function tpm2b(content: Uint8Array): Buffer {
  const out = Buffer.alloc(2 + content.length);
  out.writeUInt16BE(content.length);
  out.set(content, 2);
  return out;
}

/** KDFa in counter mode (part 1, section 11.4.10.2): labels end in a zero byte, all numbers big-endian. */
function kdfa(hash: TpmHash, key: Uint8Array, label: string, contextU: Uint8Array, bits: number): Buffer {
  const out: Buffer[] = [];
  const length = bits / 8;
  for (let counter = 1, have = 0; have < length; counter++) {
    const block = createHmac(hash, key)
      .update(u32(counter))
      .update(Buffer.from(`${label}\0`, "latin1"))
      .update(contextU)
      .update(u32(bits))
      .digest();
    out.push(block);
    have += block.length;
  }
  return Buffer.concat(out).subarray(0, length);
}

/** KDFe (part 1, section 11.4.10.3). */
function kdfe(
  hash: TpmHash,
  z: Uint8Array,
  label: string,
  u: Uint8Array,
  v: Uint8Array,
  bits: number,
): Buffer {
  const length = bits / 8;
  const out: Uint8Array[] = [];
  for (let counter = 1, have = 0; have < length; counter++) {
    const block = digest(hash, u32(counter), z, Buffer.from(`${label}\0`, "latin1"), u, v);
    out.push(block);
    have += block.length;
  }
  return Buffer.concat(out).subarray(0, length);
}

function u32(n: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32BE(n);
  return out;
}

interface Seed {
  readonly seed: Uint8Array;
  readonly encrypted: Uint8Array;
}

function rsaSeed(ek: EndorsementKey, random: (count: number) => Uint8Array): Seed {
  const size = hashSize(ek.nameAlg);
  const seed = random(size);
  const modulusBytes = (ek.key.asymmetricKeyDetails?.modulusLength ?? 0) / 8;
  const block = oaep(ek.nameAlg, seed, Buffer.from("IDENTITY\0", "latin1"), modulusBytes, random(size));
  const encrypted = publicEncrypt({ key: ek.key, padding: constants.RSA_NO_PADDING }, block);
  return { seed, encrypted };
}

/** EME-OAEP (RFC 8017 section 7.1.1), written out because node:crypto draws the OAEP seed by itself. */
function oaep(hash: TpmHash, message: Uint8Array, label: Uint8Array, size: number, seed: Uint8Array): Buffer {
  const hashBytes = hashSize(hash);
  const db = Buffer.alloc(size - hashBytes - 1);
  db.set(digest(hash, label));
  db[db.length - message.length - 1] = 1;
  db.set(message, db.length - message.length);
  const maskedDb = xor(db, mgf1(hash, seed, db.length));
  const maskedSeed = xor(seed, mgf1(hash, maskedDb, hashBytes));
  return Buffer.concat([Buffer.alloc(1), maskedSeed, maskedDb]);
}

function mgf1(hash: TpmHash, seed: Uint8Array, length: number): Buffer {
  const out: Uint8Array[] = [];
  for (let counter = 0, have = 0; have < length; counter++) {
    const block = digest(hash, seed, u32(counter));
    out.push(block);
    have += block.length;
  }
  return Buffer.concat(out).subarray(0, length);
}

function xor(a: Uint8Array, b: Uint8Array): Uint8Array {
  return a.map((byte, i) => byte ^ (b[i] ?? 0));
}

function eccSeed(ek: EndorsementKey, random: (count: number) => Uint8Array): Seed {
  const curve = ek.key.asymmetricKeyDetails?.namedCurve ?? "";
  const size = ECDH_CURVES[curve];
  const { x, y } = ek.key.export({ format: "jwk" });
  if (size === undefined || x === undefined || y === undefined) {
    throw new TpmError("TPM_UNSUPPORTED", `no key agreement over ${curve}`);
  }
  const ekX = Buffer.from(x, "base64url");
  const point = Buffer.concat([Buffer.from([4]), ekX, Buffer.from(y, "base64url")]);
  const ephemeral = createECDH(curve);
  ephemeral.setPrivateKey(privateScalar(curve, size, random));
  const z = ephemeral.computeSecret(point);
  const own = ephemeral.getPublicKey();
  const ownX = own.subarray(1, 1 + size);
  const seed = kdfe(ek.nameAlg, z, "IDENTITY", ownX, ekX, hashSize(ek.nameAlg) * 8);
  return { seed, encrypted: Buffer.concat([tpm2b(ownX), tpm2b(own.subarray(1 + size))]) };
}

/** A private scalar below the order: bytes are drawn until they are one (all but never twice). */
function privateScalar(curve: string, size: number, random: (count: number) => Uint8Array): Uint8Array {
  for (let attempt = 0; attempt < 128; attempt++) {
    const scalar = random(size);
    if (curve === "secp521r1") scalar[0] = (scalar[0] ?? 0) & 1;
    try {
      createECDH(curve).setPrivateKey(scalar);
      return scalar;
    } catch {
      // zero or not below the order
    }
  }
  throw new TpmError("TPM_UNSUPPORTED", "the randomness given yields no private key");
}
