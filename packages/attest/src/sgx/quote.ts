import { ByteReader, toHex } from "@shelter/base";
import { parseTdReport, TD_REPORT_SIZE, type TdReport } from "../tdx/td-report.ts";
import { ENCLAVE_REPORT_SIZE, type EnclaveReport, parseEnclaveReport } from "./enclave-report.ts";
import { DcapError } from "./error.ts";

/** What a quote speaks about: an enclave, or a trust domain in one of two forms. */
export type QuoteBody =
  | { readonly kind: "sgx"; readonly report: EnclaveReport }
  | { readonly kind: "td10" | "td15"; readonly report: TdReport };

/** The header of a quote (Intel SGX DCAP Quote Library API, A.4; TDX likewise, A.3). */
export interface QuoteHeader {
  readonly version: 3 | 4 | 5;
  readonly attestationKeyType: number;
  readonly teeType: number;
  /** Version 3 only; reserved afterwards. */
  readonly qeSvn: number;
  readonly pceSvn: number;
  readonly qeVendorId: Uint8Array;
  readonly userData: Uint8Array;
}

/** Certification data: how the quoting enclave's signing key is vouched for. */
export interface CertificationData {
  /** 1 to 3: PPID, 4: leaf, 5: PCK chain as PEM, 6: QE report. */
  readonly type: number;
  readonly data: Uint8Array;
}

/** A parsed quote. Byte members are views. */
export interface Quote {
  readonly bytes: Uint8Array;
  readonly header: QuoteHeader;
  readonly body: QuoteBody;
  /** Header and body: what the attestation key signed. */
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
  /** X and Y of the attestation key, 64 bytes. */
  readonly attestationKey: Uint8Array;
  readonly qeReport: EnclaveReport;
  readonly qeReportSignature: Uint8Array;
  readonly qeAuthData: Uint8Array;
  readonly certification: CertificationData;
  /** Bytes up to the end of the signature data. */
  readonly length: number;
}

/** TEE_TYPE of a quote. */
export const TEE_TYPE = { sgx: 0x00, tdx: 0x81 } as const;

const ECDSA_P256 = 2;
const INTEL_QE = "939a7233f79c4ca9940a0db3957f0607";
const MAX_QUOTE_SIZE = 1 << 20; // real ones stay under 20 KiB, padding included

function bad(message: string): DcapError {
  return new DcapError("QUOTE_MALFORMED", `quote: ${message}`);
}

function readHeader(r: ByteReader): QuoteHeader {
  const version = r.u16le();
  if (version !== 3 && version !== 4 && version !== 5) throw bad(`version ${version} is none of 3, 4, 5`);
  const attestationKeyType = r.u16le();
  if (attestationKeyType !== ECDSA_P256) {
    throw bad(`attestation key type ${attestationKeyType}, only 2 (ECDSA P-256) is supported`);
  }
  const teeType = r.u32le();
  if (teeType !== TEE_TYPE.sgx && !(teeType === TEE_TYPE.tdx && version !== 3)) {
    throw bad(`tee type 0x${teeType.toString(16)} in version ${version}`);
  }
  const qeSvn = r.u16le();
  const pceSvn = r.u16le();
  const qeVendorId = r.take(16);
  if (toHex(qeVendorId) !== INTEL_QE)
    throw bad(`quoting enclave of vendor ${toHex(qeVendorId)}, not Intel's`);
  return { version, attestationKeyType, teeType, qeSvn, pceSvn, qeVendorId, userData: r.take(20) };
}

function readBody(r: ByteReader, header: QuoteHeader): QuoteBody {
  let kind: QuoteBody["kind"] = header.teeType === TEE_TYPE.sgx ? "sgx" : "td10";
  if (header.version === 5) {
    const type = r.u16le();
    const size = r.u32le();
    const form = ([undefined, "sgx", "td10", "td15"] as const)[type];
    if (form === undefined) throw bad(`body type ${type} does not exist`);
    const due = form === "sgx" ? ENCLAVE_REPORT_SIZE : TD_REPORT_SIZE[form];
    if (size !== due) throw bad(`body of ${size} bytes, type ${type} has ${due}`);
    if ((form === "sgx") !== (kind === "sgx"))
      throw bad(`body type ${type} under tee type ${header.teeType}`);
    kind = form;
  }
  if (kind === "sgx") return { kind, report: parseEnclaveReport(r.take(ENCLAVE_REPORT_SIZE)) };
  return { kind, report: parseTdReport(r.take(TD_REPORT_SIZE[kind])) };
}

interface QeCertification {
  readonly qeReport: EnclaveReport;
  readonly qeReportSignature: Uint8Array;
  readonly qeAuthData: Uint8Array;
  readonly certification: CertificationData;
}

function readQeCertification(r: ByteReader): QeCertification {
  const qeReport = parseEnclaveReport(r.take(ENCLAVE_REPORT_SIZE), "qe report");
  const qeReportSignature = r.take(64);
  const qeAuthData = r.take(r.u16le());
  const type = r.u16le();
  const data = r.take(r.u32le());
  r.end();
  if (type < 1 || type > 5) throw bad(`certification data of type ${type}`);
  return { qeReport, qeReportSignature, qeAuthData, certification: { type, data } };
}

/**
 * Parses a quote of version 3, 4 or 5. It ends with its signature data; drivers and clouds hand it
 * over in larger buffers, so what follows is not part of it and never read (`length` says where).
 */
export function parseQuote(bytes: Uint8Array): Quote {
  if (bytes.byteLength > MAX_QUOTE_SIZE) throw bad(`${bytes.byteLength} bytes`);
  const r = new ByteReader(bytes, "quote");
  const header = readHeader(r);
  const body = readBody(r, header);
  const signed = bytes.subarray(0, r.offset);
  const data = r.sub(r.u32le(), "quote signature data");
  const length = r.offset;
  const signature = data.take(64);
  const attestationKey = data.take(64);
  let inner = data;
  if (header.version !== 3) {
    const type = data.u16le();
    if (type !== 6) throw bad(`certification data of type ${type}, expected 6 (qe report)`);
    inner = data.sub(data.u32le(), "quote certification data");
    data.end();
  }
  return { bytes, header, body, signed, signature, attestationKey, ...readQeCertification(inner), length };
}
