import { createHash, createHmac } from "node:crypto";

/** Bytes of an SM3 digest (GB/T 32905-2016). */
export const SM3_LENGTH = 32;

/** SM3 digest of the parts one after the other. */
export function sm3(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash("sm3");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** HMAC with SM3 (GM/T 0042-2015) of the parts one after the other. */
export function hmacSm3(key: Uint8Array, ...parts: readonly Uint8Array[]): Uint8Array {
  const hmac = createHmac("sm3", key);
  for (const part of parts) hmac.update(part);
  return hmac.digest();
}
