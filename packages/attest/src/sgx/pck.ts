import { ByteReader, toHex } from "@shelter/base";
import { type Certificate, DerReader, TAG } from "../x509/index.ts";
import { DcapError } from "./error.ts";

/** What a PCK certificate says about its platform (Intel SGX PCK Certificate specification, 1.3.5). */
export interface Pck {
  readonly certificate: Certificate;
  readonly ppid: Uint8Array;
  /** SGX TCB component SVNs, 16. */
  readonly components: readonly number[];
  readonly pceSvn: number;
  readonly cpuSvn: Uint8Array;
  readonly pceId: Uint8Array;
  readonly fmspc: Uint8Array;
  /** 0 standard, 1 scalable, 2 scalable with integrity. */
  readonly sgxType: number;
  readonly platformInstanceId: Uint8Array | undefined;
}

/** Identifier of the SGX extension. */
export const SGX_EXTENSION = "1.2.840.113741.1.13.1";

const MAX_SVN = 0xffff;

function bad(message: string): DcapError {
  return new DcapError("PCK_MALFORMED", `pck certificate: ${message}`);
}

/** Reads a SEQUENCE OF SEQUENCE { OID, ANY } into readers by the last part of the OID. */
function members(reader: DerReader, prefix: string): Map<string, DerReader> {
  const found = new Map<string, DerReader>();
  while (reader.more) {
    const pair = reader.enter(TAG.sequence);
    const oid = pair.oid();
    if (!oid.startsWith(`${prefix}.`)) throw bad(`${oid} in its sgx extension`);
    const key = oid.slice(prefix.length + 1);
    if (found.has(key)) throw bad(`${oid} twice in its sgx extension`);
    found.set(key, pair);
  }
  return found;
}

function octets(reader: DerReader | undefined, size: number, name: string): Uint8Array {
  const value = reader?.next(TAG.octetString).content;
  reader?.end();
  if (value?.length !== size) throw bad(`${name} of ${value?.length ?? 0} bytes, expected ${size}`);
  return value;
}

function svn(reader: DerReader | undefined, max: number, name: string): number {
  if (reader === undefined) throw bad(`no ${name}`);
  const value = reader.smallInteger();
  reader.end();
  if (value > max) throw bad(`${name} is ${value}`);
  return value;
}

/** Reads the SGX extension of a PCK certificate. */
export function readPck(certificate: Certificate): Pck {
  const extension = certificate.extensions.get(SGX_EXTENSION);
  if (extension === undefined) throw bad("no sgx extension");
  const outer = new DerReader(extension.value, "sgx extension");
  const top = members(outer.enter(TAG.sequence), SGX_EXTENSION);
  outer.end();
  const tcbPair = top.get("2");
  if (tcbPair === undefined) throw bad("no tcb in its sgx extension");
  const tcb = members(tcbPair.enter(TAG.sequence), `${SGX_EXTENSION}.2`);
  tcbPair.end();
  const components = Array.from({ length: 16 }, (_, i) =>
    svn(tcb.get(String(i + 1)), 255, `tcb component ${i + 1}`),
  );
  const type = top.get("5")?.next(TAG.enumerated).content;
  const instance = top.get("6");
  return {
    certificate,
    ppid: octets(top.get("1"), 16, "ppid"),
    components,
    pceSvn: svn(tcb.get("17"), MAX_SVN, "pcesvn"),
    cpuSvn: octets(tcb.get("18"), 16, "cpusvn"),
    pceId: octets(top.get("3"), 2, "pceid"),
    fmspc: octets(top.get("4"), 6, "fmspc"),
    sgxType: type?.[0] ?? 0,
    platformInstanceId: instance === undefined ? undefined : octets(instance, 16, "platform instance id"),
  };
}

/** The text of an FMSPC or PCEID as Intel's services write it. */
export function upperHex(bytes: Uint8Array): string {
  return toHex(bytes).toUpperCase();
}

/** Sizes of a PPID: in plain text, or encrypted under one of two keys. */
const PPID_SIZE: Readonly<Record<number, number>> = { 1: 16, 2: 256, 3: 384 };

/** Certification data of types 1 to 3: which PCK certificate would be the right one. */
export function describePpidData(type: number, data: Uint8Array): string {
  const r = new ByteReader(data, "ppid certification data");
  const ppid = r.take(PPID_SIZE[type] ?? 0);
  const platform = type === 1 ? `ppid ${toHex(ppid)}, ` : "";
  return `${platform}cpusvn ${toHex(r.take(16))}, pcesvn ${r.u16le()}`;
}
