import type { Domain, Point } from "./domain.ts";

/** A signature as its two numbers. */
export interface SignatureNumbers {
  readonly r: bigint;
  readonly s: bigint;
}

/**
 * Whether the signature over the number `e` holds (GB/T 32918.2 section 7.1), in plain big integers:
 * the definition, the fallback and the oracle for the faster way in `native.ts`. All inputs are public.
 */
export function verifyNumber(
  domain: Domain,
  publicKey: Point,
  e: bigint,
  { r, s }: SignatureNumbers,
): boolean {
  const { n } = domain;
  if (r <= 0n || r >= n || s <= 0n || s >= n) return false;
  const t = domain.mod(r + s);
  if (t === 0n) return false;
  const sum = domain.point.BASE.mulAddUnsafe(s, publicKey, t);
  if (sum.is0()) return false;
  return domain.mod(e + sum.toAffine().x) === r;
}
