import { toHex } from "@shelter/base";
import {
  type PublicKeyInfo,
  readPublicKey,
  readSignatureAlgorithm,
  type SignatureAlgorithm,
} from "./algorithm.ts";
import { checkDer, contextTag, DerReader, TAG } from "./der.ts";
import { X509Error } from "./error.ts";
import { type Name, readName } from "./name.ts";

/** One extension: its value is the content of the OCTET STRING. */
export interface Extension {
  readonly oid: string;
  readonly critical: boolean;
  readonly value: Uint8Array;
}

/** Names of the bits of keyUsage (RFC 5280 section 4.2.1.3), in order. */
export const KEY_USAGES = [
  "digitalSignature",
  "nonRepudiation",
  "keyEncipherment",
  "dataEncipherment",
  "keyAgreement",
  "keyCertSign",
  "cRLSign",
  "encipherOnly",
  "decipherOnly",
] as const;

/** One use a key may be put to. */
export type KeyUsage = (typeof KEY_USAGES)[number];

/** An X.509 certificate, parsed once; nothing in it is believed yet. */
export interface Certificate {
  /** The whole certificate, DER. */
  readonly raw: Uint8Array;
  /** The signed part, DER. */
  readonly tbs: Uint8Array;
  readonly version: 1 | 2 | 3;
  /** Content of the serial INTEGER as hex. */
  readonly serial: string;
  readonly issuer: Name;
  readonly subject: Name;
  /** Milliseconds. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly publicKey: PublicKeyInfo;
  readonly signatureAlgorithm: SignatureAlgorithm;
  readonly signature: Uint8Array;
  readonly extensions: ReadonlyMap<string, Extension>;
  readonly basicConstraints: { readonly ca: boolean; readonly pathLength: number | undefined } | undefined;
  readonly keyUsage: ReadonlySet<KeyUsage> | undefined;
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly subjectKeyId: string | undefined;
  readonly authorityKeyId: string | undefined;
}

/** Object identifiers of the extensions this library reads. */
export const EXTENSION = {
  subjectKeyId: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  crlNumber: "2.5.29.20",
  issuingDistributionPoint: "2.5.29.28",
  certificatePolicies: "2.5.29.32",
  crlDistributionPoints: "2.5.29.31",
  authorityKeyId: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
} as const;

const MAX_CERTIFICATE_SIZE = 32 * 1024; // vendors stay under 4 KiB
const MAX_EXTENSIONS = 64;

/** Parses one certificate (RFC 5280 section 4.1). The DER must be canonical throughout and end with the certificate. */
export function parseCertificate(der: Uint8Array, what = "certificate"): Certificate {
  if (der.byteLength > MAX_CERTIFICATE_SIZE) {
    throw new X509Error(
      "CERTIFICATE_MALFORMED",
      `${what}: ${der.byteLength} bytes, at most ${MAX_CERTIFICATE_SIZE}`,
    );
  }
  checkDer(der, what);
  const outer = new DerReader(der, what);
  const whole = outer.enter(TAG.sequence);
  outer.end();
  const tbsValue = whole.next(TAG.sequence);
  const algorithm = whole.next(TAG.sequence);
  const signature = whole.bitStringBytes();
  whole.end();

  const tbs = whole.inside(tbsValue);
  const version = readVersion(tbs, what);
  const serial = toHex(tbs.integer());
  if (serial.length > 64)
    throw new X509Error("CERTIFICATE_MALFORMED", `${what}: serial number of ${serial.length / 2} bytes`);
  const inner = tbs.next(TAG.sequence);
  if (Buffer.compare(inner.raw, algorithm.raw) !== 0) {
    throw new X509Error("CERTIFICATE_MALFORMED", `${what}: names two different signature algorithms`);
  }
  const issuer = readName(tbs.next(TAG.sequence), what);
  const validity = tbs.enter(TAG.sequence);
  const notBefore = validity.time();
  const notAfter = validity.time();
  validity.end();
  const subject = readName(tbs.next(TAG.sequence), what);
  const publicKey = readPublicKey(tbs.next(TAG.sequence).raw, what);
  tbs.optional(contextTag(1, false));
  tbs.optional(contextTag(2, false));
  const extensions = readExtensions(tbs, contextTag(3), what);
  tbs.end();
  if (extensions.size > 0 && version !== 3) {
    throw new X509Error("CERTIFICATE_MALFORMED", `${what}: extensions in a version ${version} certificate`);
  }

  return {
    raw: der,
    tbs: tbsValue.raw,
    version,
    serial,
    issuer,
    subject,
    notBefore,
    notAfter,
    publicKey,
    signatureAlgorithm: readSignatureAlgorithm(whole.inside(algorithm)),
    signature,
    extensions,
    ...readKnown(extensions, what),
  };
}

function readVersion(tbs: DerReader, what: string): 1 | 2 | 3 {
  if (tbs.peek() !== contextTag(0)) return 1;
  const explicit = tbs.enter(contextTag(0));
  const version = explicit.smallInteger() + 1;
  explicit.end();
  if (version !== 1 && version !== 2 && version !== 3) {
    throw new X509Error("CERTIFICATE_MALFORMED", `${what}: version ${version}`);
  }
  return version;
}

/** Reads `[n] EXPLICIT Extensions` if it comes next; an extension given twice is refused. */
export function readExtensions(reader: DerReader, tag: number, what: string): Map<string, Extension> {
  const extensions = new Map<string, Extension>();
  if (reader.peek() !== tag) return extensions;
  const explicit = reader.enter(tag);
  readExtensionList(explicit.enter(TAG.sequence), extensions, what);
  explicit.end();
  return extensions;
}

function readExtensionList(list: DerReader, extensions: Map<string, Extension>, what: string): void {
  while (list.more) {
    const entry = list.enter(TAG.sequence);
    const oid = entry.oid();
    const critical = entry.peek() === TAG.boolean ? entry.boolean() : false;
    const value = entry.next(TAG.octetString).content;
    entry.end();
    if (extensions.has(oid)) {
      throw new X509Error("CERTIFICATE_MALFORMED", `${what}: extension ${oid} twice`);
    }
    if (extensions.size >= MAX_EXTENSIONS) {
      throw new X509Error("CERTIFICATE_MALFORMED", `${what}: more than ${MAX_EXTENSIONS} extensions`);
    }
    extensions.set(oid, { oid, critical, value });
  }
}

type Known = Pick<
  Certificate,
  "basicConstraints" | "keyUsage" | "extendedKeyUsage" | "subjectKeyId" | "authorityKeyId"
>;

function readKnown(extensions: ReadonlyMap<string, Extension>, what: string): Known {
  const of = (oid: string): DerReader | undefined => {
    const extension = extensions.get(oid);
    if (extension === undefined) return undefined;
    checkDer(extension.value, `${what} extension ${oid}`);
    return new DerReader(extension.value, `${what} extension ${oid}`);
  };
  return {
    basicConstraints: readBasicConstraints(of(EXTENSION.basicConstraints)),
    keyUsage: readKeyUsage(of(EXTENSION.keyUsage), what),
    extendedKeyUsage: readExtendedKeyUsage(of(EXTENSION.extendedKeyUsage)),
    subjectKeyId: readSubjectKeyId(of(EXTENSION.subjectKeyId)),
    authorityKeyId: readAuthorityKeyId(of(EXTENSION.authorityKeyId)),
  };
}

function readBasicConstraints(reader: DerReader | undefined): Certificate["basicConstraints"] {
  if (reader === undefined) return undefined;
  const sequence = reader.enter(TAG.sequence);
  reader.end();
  const ca = sequence.peek() === TAG.boolean ? sequence.boolean() : false;
  const pathLength = sequence.peek() === TAG.integer ? sequence.smallInteger() : undefined;
  sequence.end();
  return { ca, pathLength };
}

function readKeyUsage(reader: DerReader | undefined, what: string): ReadonlySet<KeyUsage> | undefined {
  if (reader === undefined) return undefined;
  const { content } = reader.next(TAG.bitString);
  reader.end();
  const bits = content.subarray(1);
  if (bits.length > 2)
    throw new X509Error("CERTIFICATE_MALFORMED", `${what}: key usage of ${bits.length} bytes`);
  return new Set(KEY_USAGES.filter((_, i) => ((bits[i >> 3] ?? 0) & (0x80 >> (i & 7))) !== 0));
}

function readExtendedKeyUsage(reader: DerReader | undefined): readonly string[] | undefined {
  if (reader === undefined) return undefined;
  const sequence = reader.enter(TAG.sequence);
  reader.end();
  const uses: string[] = [];
  while (sequence.more) uses.push(sequence.oid());
  return uses;
}

function readSubjectKeyId(reader: DerReader | undefined): string | undefined {
  if (reader === undefined) return undefined;
  const id = toHex(reader.next(TAG.octetString).content);
  reader.end();
  return id;
}

function readAuthorityKeyId(reader: DerReader | undefined): string | undefined {
  if (reader === undefined) return undefined;
  const sequence = reader.enter(TAG.sequence);
  reader.end();
  const id = sequence.optional(contextTag(0, false));
  return id === undefined ? undefined : toHex(id.content);
}
