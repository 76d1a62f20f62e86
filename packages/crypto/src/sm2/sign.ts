import { createECDH, randomBytes } from "node:crypto";
import { type Domain, SM2P256V1, toBytes, toNumber } from "./domain.ts";
import type { SignatureNumbers } from "./verify.ts";

/** A number between 1 and n - 1, uniform: drawn again rather than reduced, so that none is likelier. */
export function randomScalar(domain: Domain): bigint {
  for (;;) {
    const candidate = toNumber(randomBytes(32));
    if (candidate !== 0n && candidate < domain.n) return candidate;
  }
}

/**
 * `04 || x || y` of kG for a secret k. On the recommended curve by OpenSSL, whose ladder takes the same time
 * for every k; elsewhere by the library's fixed sequence of big-integer operations.
 */
export function secretBaseMultiple(domain: Domain, k: bigint): Uint8Array {
  if (domain.parameters === SM2P256V1) {
    const ecdh = createECDH("SM2");
    ecdh.setPrivateKey(toBytes(k));
    return ecdh.getPublicKey();
  }
  const { x, y } = domain.point.BASE.multiply(k).toAffine();
  return Buffer.concat([Uint8Array.of(4), toBytes(x), toBytes(y)]);
}

/**
 * One attempt at a signature with the nonce k (GB/T 32918.2 section 6.1), null where the standard demands
 * another k. The same k twice gives the key away: only tests may choose it.
 */
export function signNumberWith(domain: Domain, d: bigint, e: bigint, k: bigint): SignatureNumbers | null {
  const x1 = toNumber(secretBaseMultiple(domain, k).subarray(1, 33));
  const r = domain.mod(e + x1);
  if (r === 0n || r + k === domain.n) return null;
  // s = (k - rd) / (1 + d). Big integers take a time that depends on their values, so neither the inverse nor
  // the products see d or k bare: both sides are multiplied by a random z that cancels.
  const z = randomScalar(domain);
  const zd = domain.mod(z * d);
  const s = domain.mod(domain.invert(domain.mod(z + zd)) * domain.mod(z * k - r * zd));
  return s === 0n ? null : { r, s };
}

/** Signs the number e with a fresh random nonce. */
export function signNumber(domain: Domain, d: bigint, e: bigint): SignatureNumbers {
  for (;;) {
    const signature = signNumberWith(domain, d, e, randomScalar(domain));
    if (signature !== null) return signature;
  }
}
