import { toHex } from "@shelter/base";
import { readSignatureAlgorithm, type SignatureAlgorithm } from "./algorithm.ts";
import { type Certificate, EXTENSION, type Extension, readExtensions } from "./certificate.ts";
import { contextTag, DerReader, TAG } from "./der.ts";
import { X509Error } from "./error.ts";
import { type Name, readName } from "./name.ts";
import { isPem, parsePemBlocks } from "./pem.ts";
import { signedBy } from "./signed-by.ts";

/** A certificate revocation list (RFC 5280 section 5). */
export interface Crl {
  readonly raw: Uint8Array;
  readonly tbs: Uint8Array;
  readonly issuer: Name;
  /** Milliseconds. */
  readonly thisUpdate: number;
  readonly nextUpdate: number | undefined;
  /** Serial numbers as hex, as `Certificate.serial` has them. */
  readonly revoked: ReadonlySet<string>;
  readonly signatureAlgorithm: SignatureAlgorithm;
  readonly signature: Uint8Array;
  readonly extensions: ReadonlyMap<string, Extension>;
}

const MAX_CRL_SIZE = 16 * 1024 * 1024;

/** Parses one CRL, DER or PEM. */
export function parseCrl(bytes: Uint8Array, what = "CRL"): Crl {
  if (bytes.byteLength > MAX_CRL_SIZE)
    throw new X509Error("CRL_MALFORMED", `${what}: ${bytes.byteLength} bytes`);
  let der = bytes;
  if (isPem(bytes)) {
    const [block, ...more] = parsePemBlocks(Buffer.from(bytes).toString("latin1"), what);
    if (block === undefined || more.length > 0 || block.label !== "X509 CRL") {
      throw new X509Error("CRL_MALFORMED", `${what}: expected one X509 CRL block`);
    }
    der = block.der;
  }
  const outer = new DerReader(der, what);
  const whole = outer.enter(TAG.sequence);
  outer.end();
  const tbsValue = whole.next(TAG.sequence);
  const algorithm = whole.next(TAG.sequence);
  const signature = whole.bitStringBytes();
  whole.end();

  const tbs = whole.inside(tbsValue);
  if (tbs.peek() === TAG.integer && tbs.smallInteger() !== 1) {
    throw new X509Error("CRL_MALFORMED", `${what}: neither version 1 nor 2`);
  }
  if (Buffer.compare(tbs.next(TAG.sequence).raw, algorithm.raw) !== 0) {
    throw new X509Error("CRL_MALFORMED", `${what}: names two different signature algorithms`);
  }
  const issuer = readName(tbs.next(TAG.sequence), what);
  const thisUpdate = tbs.time();
  const hasNext = tbs.peek() === TAG.utcTime || tbs.peek() === TAG.generalizedTime;
  const nextUpdate = hasNext ? tbs.time() : undefined;
  const revoked = new Set<string>();
  if (tbs.peek() === TAG.sequence) {
    const entries = tbs.enter(TAG.sequence);
    while (entries.more) {
      const entry = entries.enter(TAG.sequence);
      revoked.add(toHex(entry.integer()));
      entry.time();
      entry.optional(TAG.sequence); // whatever the reason, it is revoked
      entry.end();
    }
  }
  const extensions = readExtensions(tbs, contextTag(0), what);
  tbs.end();
  return {
    raw: der,
    tbs: tbsValue.raw,
    issuer,
    thisUpdate,
    nextUpdate,
    revoked,
    signatureAlgorithm: readSignatureAlgorithm(whole.inside(algorithm)),
    signature,
    extensions,
  };
}

/** Whether the CRL is signed by this certificate's key, and that key may sign CRLs. */
export function crlSignedBy(crl: Crl, issuer: Certificate): boolean {
  return (
    crl.issuer.key === issuer.subject.key &&
    (issuer.keyUsage === undefined || issuer.keyUsage.has("cRLSign")) &&
    signedBy(crl, issuer.publicKey)
  );
}

/**
 * The reason why a CRL does not speak about every certificate of its issuer; undefined when it does.
 * Indirect, partial and delta CRLs, and critical extensions unknown here, limit what absence means.
 */
export function crlLimit(crl: Crl): string | undefined {
  for (const extension of crl.extensions.values()) {
    if (extension.oid === EXTENSION.issuingDistributionPoint) {
      const point = new DerReader(extension.value, "issuing distribution point").enter(TAG.sequence);
      while (point.more) {
        // [0] only says where the CRL is published.
        if (point.next().tag !== contextTag(0)) return "it speaks about some certificates only";
      }
    } else if (extension.critical) {
      return `critical extension ${extension.oid} is not known`;
    }
  }
  return undefined;
}
