import { createHash } from "node:crypto";
import { CryptoError } from "../error.ts";
import { type Domain, toNumber } from "./domain.ts";

/** Hash under SM2: SM3 by the standard; SHA-256 only because other implementations have vectors with it. */
export type Sm2Hash = "sm3" | "sha256";

/** The user identity that applies where no other is agreed (GM/T 0009-2012 section 10). */
export const DEFAULT_IDENTITY: Uint8Array = Buffer.from("1234567812345678", "ascii");

// ENTL counts bits in two bytes.
const MAX_IDENTITY_LENGTH = 8191;

/** ZA: the digest of identity, curve and public key that stands before the message (GB/T 32918.2 section 5.5). */
export function identityDigest(
  domain: Domain,
  hash: Sm2Hash,
  publicKey: Uint8Array,
  identity: Uint8Array,
): Uint8Array {
  if (identity.byteLength > MAX_IDENTITY_LENGTH) {
    throw new CryptoError(
      "SM2_IDENTITY",
      `identity: ${identity.byteLength} bytes, at most ${MAX_IDENTITY_LENGTH}`,
    );
  }
  const bits = identity.byteLength * 8;
  return createHash(hash)
    .update(Uint8Array.of(bits >> 8, bits & 255))
    .update(identity)
    .update(domain.constants)
    .update(publicKey.subarray(1))
    .digest();
}

/** e: what is signed, as a number (GB/T 32918.2 section 6.1, steps A1 and A2). */
export function messageNumber(
  domain: Domain,
  hash: Sm2Hash,
  publicKey: Uint8Array,
  message: Uint8Array,
  identity: Uint8Array,
): bigint {
  const za = identityDigest(domain, hash, publicKey, identity);
  return toNumber(createHash(hash).update(za).update(message).digest());
}
