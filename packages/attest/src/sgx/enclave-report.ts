import { ByteReader } from "@shelter/base";

/** Size of an enclave's report body (Intel SDM volume 3D, table 40-21). */
export const ENCLAVE_REPORT_SIZE = 384;

/** A report of an SGX enclave. Byte members are views. */
export interface EnclaveReport {
  readonly bytes: Uint8Array;
  readonly cpuSvn: Uint8Array;
  readonly miscSelect: number;
  readonly isvExtProdId: Uint8Array;
  /** FLAGS (8 bytes) and XFRM (8 bytes). */
  readonly attributes: Uint8Array;
  readonly mrEnclave: Uint8Array;
  readonly mrSigner: Uint8Array;
  readonly configId: Uint8Array;
  readonly isvProdId: number;
  readonly isvSvn: number;
  readonly configSvn: number;
  readonly isvFamilyId: Uint8Array;
  readonly reportData: Uint8Array;
}

/** Bits of ATTRIBUTES.FLAGS. */
export interface SgxAttributes {
  readonly init: boolean;
  readonly debug: boolean;
  readonly mode64: boolean;
  readonly provisionKey: boolean;
  readonly einitTokenKey: boolean;
  readonly kss: boolean;
}

/** Parses a report body of exactly 384 bytes. */
export function parseEnclaveReport(bytes: Uint8Array, what = "enclave report"): EnclaveReport {
  const r = new ByteReader(bytes, what);
  const cpuSvn = r.take(16);
  const miscSelect = r.u32le();
  r.skip(12);
  const isvExtProdId = r.take(16);
  const attributes = r.take(16);
  const mrEnclave = r.take(32);
  r.skip(32);
  const mrSigner = r.take(32);
  r.skip(32);
  const configId = r.take(64);
  const isvProdId = r.u16le();
  const isvSvn = r.u16le();
  const configSvn = r.u16le();
  r.skip(42);
  const isvFamilyId = r.take(16);
  const reportData = r.take(64);
  r.end();
  return {
    bytes,
    cpuSvn,
    miscSelect,
    isvExtProdId,
    attributes,
    mrEnclave,
    mrSigner,
    configId,
    isvProdId,
    isvSvn,
    configSvn,
    isvFamilyId,
    reportData,
  };
}

/** Decodes ATTRIBUTES.FLAGS. */
export function sgxAttributes(attributes: Uint8Array): SgxAttributes {
  const flags = attributes[0] ?? 0;
  return {
    init: (flags & 0x01) !== 0,
    debug: (flags & 0x02) !== 0,
    mode64: (flags & 0x04) !== 0,
    provisionKey: (flags & 0x10) !== 0,
    einitTokenKey: (flags & 0x20) !== 0,
    kss: (flags & 0x80) !== 0,
  };
}
