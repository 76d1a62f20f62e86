import { createHash, timingSafeEqual } from "node:crypto";
import { CryptoError } from "../error.ts";
import { DerSequence, derInteger, derOctets, derSequence } from "./der.ts";
import { type Domain, type Point, pointBytes, toBytes, toNumber } from "./domain.ts";
import type { Sm2Hash } from "./identity.ts";
import { randomScalar, secretBaseMultiple } from "./sign.ts";

/** The three parts of a ciphertext: C1 as `04 || x || y`, the tag C3, the masked message C2. */
export interface Ciphertext {
  readonly c1: Uint8Array;
  readonly c3: Uint8Array;
  readonly c2: Uint8Array;
}

const TAG_LENGTH = 32;
/** SM2 is for keys and short messages; what is longer belongs under SM4. */
const MAX_PLAINTEXT = 1 << 20;

/** The key stream of GB/T 32918.4 section 5.4.3, as X9.63 has it. */
function keyStream(hash: Sm2Hash, x2y2: Uint8Array, length: number): Uint8Array {
  const blocks: Uint8Array[] = [];
  for (let counter = 1, made = 0; made < length; counter++, made += 32) {
    const suffix = Buffer.alloc(4);
    suffix.writeUInt32BE(counter);
    blocks.push(createHash(hash).update(x2y2).update(suffix).digest());
  }
  return Buffer.concat(blocks).subarray(0, length);
}

function masked(message: Uint8Array, stream: Uint8Array): Uint8Array {
  const out = new Uint8Array(message.byteLength);
  for (let i = 0; i < out.byteLength; i++) out[i] = (message[i] ?? 0) ^ (stream[i] ?? 0);
  return out;
}

function isZero(bytes: Uint8Array): boolean {
  let any = 0;
  for (const byte of bytes) any |= byte;
  return any === 0;
}

/** One attempt with the nonce k, null where the standard demands another. Only tests may choose k. */
export function encryptWith(
  domain: Domain,
  hash: Sm2Hash,
  publicKey: Point,
  message: Uint8Array,
  k: bigint,
): Ciphertext | null {
  if (message.byteLength === 0 || message.byteLength > MAX_PLAINTEXT) {
    throw new CryptoError(
      "SM2_PLAINTEXT",
      `message: ${message.byteLength} bytes, expected 1 to ${MAX_PLAINTEXT}`,
    );
  }
  const c1 = secretBaseMultiple(domain, k);
  const x2y2 = pointBytes(publicKey.multiply(k)).subarray(1);
  const stream = keyStream(hash, x2y2, message.byteLength);
  if (isZero(stream)) return null;
  const c3 = createHash(hash).update(x2y2.subarray(0, 32)).update(message).update(x2y2.subarray(32)).digest();
  return { c1, c3, c2: masked(message, stream) };
}

/** Encrypts a message of 1 byte to 1 MiB to a public key (GB/T 32918.4 section 6.1). */
export function encrypt(domain: Domain, hash: Sm2Hash, publicKey: Point, message: Uint8Array): Ciphertext {
  for (;;) {
    const ciphertext = encryptWith(domain, hash, publicKey, message, randomScalar(domain));
    if (ciphertext !== null) return ciphertext;
  }
}

/** Decrypts (GB/T 32918.4 section 7.1); one error for everything wrong with the content. */
export function decrypt(domain: Domain, hash: Sm2Hash, d: bigint, { c1, c3, c2 }: Ciphertext): Uint8Array {
  if (c2.byteLength === 0 || c2.byteLength > MAX_PLAINTEXT) {
    throw new CryptoError(
      "SM2_CIPHERTEXT",
      `ciphertext: message of ${c2.byteLength} bytes, expected 1 to ${MAX_PLAINTEXT}`,
    );
  }
  const point = domain.readPoint(c1, "ciphertext");
  // d is used for many messages that others choose, and big integers take a time that depends on their values:
  // each multiplication gets a random share of d instead.
  let share = randomScalar(domain);
  while (share === d) share = randomScalar(domain);
  const shared = point.multiply(share).add(point.multiply(domain.mod(d - share)));
  const x2y2 = pointBytes(shared).subarray(1);
  const stream = keyStream(hash, x2y2, c2.byteLength);
  const message = masked(c2, stream);
  const tag = createHash(hash)
    .update(x2y2.subarray(0, 32))
    .update(message)
    .update(x2y2.subarray(32))
    .digest();
  const same = c3.byteLength === TAG_LENGTH && timingSafeEqual(tag, c3);
  if (!same || isZero(stream)) {
    throw new CryptoError(
      "SM2_CIPHERTEXT",
      "ciphertext: C3 does not match, altered or for another key",
      "refused",
    );
  }
  return message;
}

/** C1 || C3 || C2, the order of GB/T 32918.4. */
export function ciphertextBytes({ c1, c3, c2 }: Ciphertext): Uint8Array {
  return Buffer.concat([c1, c3, c2]);
}

/** Reads C1 || C3 || C2. */
export function readCiphertext(bytes: Uint8Array): Ciphertext {
  if (bytes.byteLength < 65 + TAG_LENGTH) {
    throw new CryptoError(
      "SM2_CIPHERTEXT",
      `ciphertext: ${bytes.byteLength} bytes, at least ${65 + TAG_LENGTH}`,
    );
  }
  return { c1: bytes.subarray(0, 65), c3: bytes.subarray(65, 97), c2: bytes.subarray(97) };
}

/** DER `SEQUENCE { x, y INTEGER, C3, C2 OCTET STRING }` (GM/T 0009-2012 section 7.2). */
export function ciphertextDer({ c1, c3, c2 }: Ciphertext): Uint8Array {
  const x = toNumber(c1.subarray(1, 33));
  const y = toNumber(c1.subarray(33));
  return derSequence(derInteger(x), derInteger(y), derOctets(c3), derOctets(c2));
}

/** Reads the DER form. */
export function readCiphertextDer(bytes: Uint8Array): Ciphertext {
  const sequence = new DerSequence(bytes, "ciphertext", "SM2_CIPHERTEXT");
  const x = sequence.integer();
  const y = sequence.integer();
  const c3 = sequence.octets();
  const c2 = sequence.octets();
  sequence.end();
  if (x >> 256n !== 0n || y >> 256n !== 0n)
    throw new CryptoError("SM2_CIPHERTEXT", "ciphertext: a coordinate past 256 bits");
  return { c1: Buffer.concat([Uint8Array.of(4), toBytes(x), toBytes(y)]), c3, c2 };
}
