import { type PublicKeyInfo, type SignatureAlgorithm, verifySignature } from "./algorithm.ts";

/** What a certificate and a CRL have in common: a signed part and its signature. */
export interface Signed {
  readonly tbs: Uint8Array;
  readonly signature: Uint8Array;
  readonly signatureAlgorithm: SignatureAlgorithm;
}

const known = new WeakMap<Signed, WeakMap<PublicKeyInfo, boolean>>();

/**
 * Whether a parsed certificate or CRL is signed by a key. Remembered as long as both objects live:
 * collateral that is parsed once and used for many pieces of evidence is verified once.
 */
export function signedBy(signed: Signed, key: PublicKeyInfo): boolean {
  let results = known.get(signed);
  if (results === undefined) {
    results = new WeakMap();
    known.set(signed, results);
  }
  let result = results.get(key);
  if (result === undefined) {
    result = verifySignature(signed.signatureAlgorithm, key, signed.tbs, signed.signature);
    results.set(key, result);
  }
  return result;
}
