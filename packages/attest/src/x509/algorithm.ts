import { constants, createPublicKey, type KeyObject, verify } from "node:crypto";
import { contextTag, DerReader, TAG } from "./der.ts";
import { X509Error } from "./error.ts";

/** A signature algorithm of a certificate or CRL; `unsupported` ones never verify. */
export type SignatureAlgorithm =
  | { readonly kind: "ecdsa"; readonly hash: string; readonly name: string }
  | { readonly kind: "rsa"; readonly hash: string; readonly name: string }
  | { readonly kind: "rsa-pss"; readonly hash: string; readonly saltLength: number; readonly name: string }
  | { readonly kind: "unsupported"; readonly name: string };

/** The public key of a certificate: what it is, and its SubjectPublicKeyInfo. */
export interface PublicKeyInfo {
  /** Whole SubjectPublicKeyInfo, DER. */
  readonly spki: Uint8Array;
  readonly kind: "ec" | "rsa" | "unsupported";
  /** `P-256`, `P-384`, `P-521` for `ec`; the dotted algorithm or curve for `unsupported`. */
  readonly name: string;
  /** Bits of the modulus or of the curve's order. */
  readonly bits: number;
  /** The bits of subjectPublicKey: an uncompressed point for `ec`, an RSAPublicKey for `rsa`. */
  readonly key: Uint8Array;
}

const HASHES: Readonly<Record<string, string>> = {
  "2.16.840.1.101.3.4.2.1": "sha256",
  "2.16.840.1.101.3.4.2.2": "sha384",
  "2.16.840.1.101.3.4.2.3": "sha512",
};

// SHA-1 and MD5 are absent on purpose: a certificate signed with them is `unsupported`.
const SIGNATURES: Readonly<Record<string, SignatureAlgorithm>> = {
  "1.2.840.10045.4.3.2": { kind: "ecdsa", hash: "sha256", name: "ecdsa-with-SHA256" },
  "1.2.840.10045.4.3.3": { kind: "ecdsa", hash: "sha384", name: "ecdsa-with-SHA384" },
  "1.2.840.10045.4.3.4": { kind: "ecdsa", hash: "sha512", name: "ecdsa-with-SHA512" },
  "1.2.840.113549.1.1.11": { kind: "rsa", hash: "sha256", name: "sha256WithRSAEncryption" },
  "1.2.840.113549.1.1.12": { kind: "rsa", hash: "sha384", name: "sha384WithRSAEncryption" },
  "1.2.840.113549.1.1.13": { kind: "rsa", hash: "sha512", name: "sha512WithRSAEncryption" },
};

const CURVES: Readonly<Record<string, { name: string; bits: number }>> = {
  "1.2.840.10045.3.1.7": { name: "P-256", bits: 256 },
  "1.3.132.0.34": { name: "P-384", bits: 384 },
  "1.3.132.0.35": { name: "P-521", bits: 521 },
};

const RSA_ENCRYPTION = "1.2.840.113549.1.1.1";
const RSASSA_PSS = "1.2.840.113549.1.1.10";
const MGF1 = "1.2.840.113549.1.1.8";
const EC_PUBLIC_KEY = "1.2.840.10045.2.1";
const MIN_RSA_BITS = 2048;
const MAX_RSA_BITS = 8192; // verification time grows with the square; no vendor goes past 4096

/** Reads an AlgorithmIdentifier of a signature (RFC 5280 section 4.1.1.2, RFC 4055, RFC 5758). */
export function readSignatureAlgorithm(reader: DerReader): SignatureAlgorithm {
  const oid = reader.oid();
  if (oid === RSASSA_PSS) return readPss(reader);
  const known = SIGNATURES[oid];
  if (known === undefined) return { kind: "unsupported", name: oid };
  if (known.kind === "rsa") {
    const none = reader.optional(TAG.null);
    if (none !== undefined && none.content.length !== 0) {
      throw new X509Error("DER_MALFORMED", `${reader.what}: null with content`);
    }
  }
  reader.end();
  return known;
}

function hashOf(reader: DerReader): string | undefined {
  const hash = HASHES[reader.oid()];
  reader.optional(TAG.null);
  reader.end();
  return hash;
}

function readPss(reader: DerReader): SignatureAlgorithm {
  const params = reader.enter(TAG.sequence);
  reader.end();
  let hash: string | undefined;
  let mask: string | undefined;
  let saltLength = 20;
  let trailer = 1;
  if (params.peek() === contextTag(0)) {
    const explicit = params.enter(contextTag(0));
    hash = hashOf(explicit.enter(TAG.sequence));
    explicit.end();
  }
  if (params.peek() === contextTag(1)) {
    const explicit = params.enter(contextTag(1));
    const mgf = explicit.enter(TAG.sequence);
    explicit.end();
    if (mgf.oid() === MGF1) {
      mask = hashOf(mgf.enter(TAG.sequence));
      mgf.end();
    }
  }
  if (params.peek() === contextTag(2)) {
    const explicit = params.enter(contextTag(2));
    saltLength = explicit.smallInteger();
    explicit.end();
  }
  if (params.peek() === contextTag(3)) {
    const explicit = params.enter(contextTag(3));
    trailer = explicit.smallInteger();
    explicit.end();
  }
  params.end();
  // The defaults of RFC 4055 are SHA-1, which is refused as everywhere.
  if (hash === undefined || mask !== hash || trailer !== 1) {
    return { kind: "unsupported", name: "rsassaPss with other parameters than one SHA-2 hash" };
  }
  return { kind: "rsa-pss", hash, saltLength, name: `rsassaPss-${hash}-salt${saltLength}` };
}

/** Reads a whole SubjectPublicKeyInfo. Curves by name only: explicit parameters are `unsupported`. */
export function readPublicKey(spki: Uint8Array, what: string): PublicKeyInfo {
  const outer = new DerReader(spki, what);
  const reader = outer.enter(TAG.sequence);
  outer.end();
  const algorithm = reader.enter(TAG.sequence);
  const key = reader.bitStringBytes();
  reader.end();
  const oid = algorithm.oid();
  if (oid === EC_PUBLIC_KEY && algorithm.peek() === TAG.oid) {
    const curveOid = algorithm.oid();
    algorithm.end();
    const curve = CURVES[curveOid];
    return curve === undefined
      ? { spki, kind: "unsupported", name: curveOid, bits: 0, key }
      : { spki, kind: "ec", name: curve.name, bits: curve.bits, key };
  }
  if (oid === RSA_ENCRYPTION || oid === RSASSA_PSS) {
    const inner = new DerReader(key, what);
    const numbers = inner.enter(TAG.sequence);
    inner.end();
    const modulus = numbers.integer();
    const exponent = numbers.integer();
    numbers.end();
    const lead = modulus[0] === 0 ? 1 : 0;
    const bits = modulus[0]! >= 0x80 ? 0 : (modulus.length - lead) * 8 - Math.clz32(modulus[lead] ?? 0) + 24;
    const sane =
      bits >= MIN_RSA_BITS && bits <= MAX_RSA_BITS && exponent.length <= 8 && (exponent.at(-1)! & 1) === 1;
    const one = exponent.length === 1 && exponent[0] === 1;
    if (!sane || one) return { spki, kind: "unsupported", name: `RSA of ${bits} bits`, bits, key };
    return { spki, kind: "rsa", name: `RSA-${bits}`, bits, key };
  }
  return { spki, kind: "unsupported", name: oid, bits: 0, key };
}

const keys = new WeakMap<PublicKeyInfo, KeyObject>();

/** The key as node:crypto has it, made once; undefined for keys this library does not accept. */
export function keyObject(info: PublicKeyInfo): KeyObject | undefined {
  if (info.kind === "unsupported") return undefined;
  const known = keys.get(info);
  if (known !== undefined) return known;
  try {
    const key = createPublicKey({ key: Buffer.from(info.spki), format: "der", type: "spki" });
    keys.set(info, key);
    return key;
  } catch {
    return undefined; // a point that is not on its curve, and the like
  }
}

/**
 * Whether `signature` (DER for ECDSA) over `data` is by this key. Never throws: an algorithm that
 * does not fit the key, s >= n, zeros and non-canonical encodings are simply not valid (OpenSSL
 * checks the latter).
 */
export function verifySignature(
  algorithm: SignatureAlgorithm,
  info: PublicKeyInfo,
  data: Uint8Array,
  signature: Uint8Array,
): boolean {
  const key = keyObject(info);
  if (key === undefined) return false;
  try {
    switch (algorithm.kind) {
      case "ecdsa":
        return info.kind === "ec" && verify(algorithm.hash, data, { key, dsaEncoding: "der" }, signature);
      case "rsa":
        return (
          info.kind === "rsa" &&
          key.asymmetricKeyType === "rsa" &&
          verify(algorithm.hash, data, { key, padding: constants.RSA_PKCS1_PADDING }, signature)
        );
      case "rsa-pss":
        return (
          info.kind === "rsa" &&
          verify(
            algorithm.hash,
            data,
            { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: algorithm.saltLength },
            signature,
          )
        );
      case "unsupported":
        return false;
      default:
        return algorithm satisfies never;
    }
  } catch {
    return false;
  }
}
