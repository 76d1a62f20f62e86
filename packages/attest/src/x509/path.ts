import { sameBytes } from "@shelter/base";
import type { Certificate } from "./certificate.ts";
import { signedBy } from "./signed-by.ts";

/** Where the search for a way to an anchor ended. */
export interface PathSearch {
  /** Every way from the leaf to a pinned anchor over good signatures, leaf first; shortest detours first. */
  readonly paths: readonly (readonly Certificate[])[];
  /** The longest way over good signatures that reached no anchor. */
  readonly dead: readonly Certificate[];
  /** Certificates that carry the name of the issuer missing at the end of `dead`, and whose key did not sign it. */
  readonly lookAlikes: number;
}

const MAX_PATH = 8;
const MAX_SIGNATURES = 32; // a hostile bundle of look-alikes must not buy unbounded work
const MAX_PATHS = 4;

/** Whether a certificate is one of the anchors, byte for byte. */
export function isAnchor(certificate: Certificate, anchors: readonly Certificate[]): boolean {
  return anchors.some((anchor) => sameBytes(anchor.raw, certificate.raw));
}

/**
 * Looks for ways from the leaf to an anchor. Order, duplicates and look-alikes (the same subject
 * over another key) in what was given do not matter: an issuer is who verifiably signed.
 */
export function findPaths(
  leaf: Certificate,
  intermediates: readonly Certificate[],
  anchors: readonly Certificate[],
): PathSearch {
  const pool: Certificate[] = [];
  for (const certificate of [...anchors, ...intermediates]) {
    if (!pool.some((known) => sameBytes(known.raw, certificate.raw))) pool.push(certificate);
  }
  const paths: Certificate[][] = [];
  let dead: Certificate[] = [];
  let lookAlikes = 0;
  let budget = MAX_SIGNATURES;

  const extend = (path: Certificate[]): void => {
    const last = path[path.length - 1];
    if (last === undefined) return;
    if (isAnchor(last, anchors)) {
      paths.push(path);
      return;
    }
    let similar = 0;
    for (const candidate of path.length < MAX_PATH ? pool : []) {
      if (paths.length >= MAX_PATHS) return;
      if (candidate.subject.key !== last.issuer.key || path.includes(candidate)) continue;
      if (sameBytes(candidate.raw, last.raw)) continue;
      if (budget-- <= 0) break;
      if (signedBy(last, candidate.publicKey)) {
        extend([...path, candidate]);
      } else {
        similar++;
      }
    }
    if (path.length > dead.length) {
      dead = path;
      lookAlikes = similar;
    }
  };
  extend([leaf]);
  return { paths, dead, lookAlikes };
}
