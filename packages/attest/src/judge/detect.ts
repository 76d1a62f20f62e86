import { type JsonObject, parseJson } from "@shelter/base";
import { recognise } from "../collateral/index.ts";
import { parseSnpEvidence, SnpError } from "../snp/index.ts";
import type { Platform } from "./files.ts";

/** What a file given as evidence holds. */
export interface DetectedFile {
  readonly role: string;
  readonly bytes: Uint8Array;
  /** The platform this file alone points to. */
  readonly platform?: Platform;
}

const SNP_REPORT_SIZE = 1184;
const CSV_SIZES: readonly number[] = [2548, 4096];
const HCL_MAGIC = "HCLA";

/** Recognises evidence by its content: its role and, where that says so, its platform. Trustee's JSON may hold several files. */
export function detect(bytes: Uint8Array, name: string): DetectedFile[] {
  const first = bytes.find((b) => b > 0x20);
  if (first === 0x7b || first === 0x5b) {
    const found = detectJson(bytes, name);
    if (found.length > 0) return found;
  }
  const binary = detectBinary(bytes);
  if (binary !== undefined) return [{ ...binary, bytes }];
  const piece = recognise(name, bytes);
  return piece === undefined ? [] : [{ role: piece.role, bytes }];
}

type Detected = { readonly role: string; readonly platform?: Platform };

function detectBinary(bytes: Uint8Array): Detected | undefined {
  if (bytes.length < 16) return undefined;
  const b = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (b.toString("latin1", 0, 26) === "-----BEGIN PUBLIC KEY-----") return { role: "ak_pub" };
  if (b.toString("latin1", 0, 4) === HCL_MAGIC) return { role: "hcl_report" };
  if (b.readUInt32BE(0) === 0xff544347) return { role: "quote", platform: "tpm" };
  const log = b.readUInt32LE(4) === 3 && b.toString("latin1", 32, 46) === "Spec ID Event0";
  if (log) return { role: "event_log" };
  const snpVersion = b.readUInt32LE(0);
  if (bytes.length === SNP_REPORT_SIZE && snpVersion >= 2 && snpVersion <= 5)
    return { role: "report", platform: "snp" };
  const quote = quotePlatform(b);
  if (quote !== undefined) return { role: "quote", platform: quote };
  if (b.readUInt16BE(0) === 0xd901 && b[2] === 0x8f) return { role: "token", platform: "cca" };
  const cose = b[0] === 0x84 || (b[0] === 0xd2 && b[1] === 0x84);
  if (cose && b.includes("module_id", 0, "latin1")) return { role: "document", platform: "nitro" };
  if (CSV_SIZES.includes(bytes.length)) return { role: "report", platform: "csv" };
  return detectTpm(b);
}

function quotePlatform(b: Buffer): Platform | undefined {
  if (b.length < 48) return undefined;
  const version = b.readUInt16LE(0);
  const tee = b.readUInt32LE(4);
  if (version < 3 || version > 5 || b.readUInt16LE(2) > 3) return undefined;
  if (tee === 0x81 && version >= 4) return "tdx";
  return tee === 0 ? "sgx" : undefined;
}

/** TPMT_SIGNATURE, TPMT_PUBLIC or TPM2B_PUBLIC, by their algorithm identifiers. */
function detectTpm(b: Buffer): Detected | undefined {
  const id = b.readUInt16BE(0);
  const hash = b.readUInt16BE(2);
  const isHash = [0x04, 0x0b, 0x0c, 0x0d].includes(hash);
  if ([0x14, 0x16, 0x18].includes(id) && isHash) return { role: "signature" };
  if ([0x01, 0x23].includes(id) && isHash) return { role: "ak_pub" };
  return id === b.length - 2 && [0x01, 0x23].includes(hash) ? { role: "ak_pub" } : undefined;
}

function detectJson(bytes: Uint8Array, name: string): DetectedFile[] {
  const json = parseJson(new TextDecoder().decode(bytes), name);
  if (Array.isArray(json)) {
    return json.length === 24 && json.every((v) => typeof v === "string") ? [{ role: "pcrs", bytes }] : [];
  }
  if (typeof json !== "object" || json === null) return [];
  const object = json as JsonObject;
  const has = (key: string): boolean => object[key] !== undefined && object[key] !== null;
  if (has("hcl_report") || (has("report") && has("quote"))) {
    return [{ role: "evidence_json", bytes, platform: has("td_quote") ? "az-tdx-vtpm" : "az-snp-vtpm" }];
  }
  if (has("tpm_quote")) return [{ role: "evidence_json", bytes, platform: "tpm" }];
  if (has("attestation_report") && isSnpReport(object["attestation_report"])) return detectTrusteeSnp(bytes);
  if (has("attestation_report") && (has("serial_number") || has("cert_chain"))) {
    return [{ role: "evidence_json", bytes, platform: "csv" }];
  }
  if (typeof object["quote"] === "string") return detectTrusteeTdx(object);
  if (["sha1", "sha256", "sha384"].some(has)) return [{ role: "pcrs", bytes }];
  return [];
}

/** Hygon's report has neither of these by name. */
function isSnpReport(value: JsonObject[string]): boolean {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  const report = value as JsonObject;
  return report["measurement"] !== undefined || report["chip_id"] !== undefined;
}

/** Trustee's `{"attestation_report": …, "cert_chain": …}`; one that cannot be read is left for the verifier to refuse. */
function detectTrusteeSnp(bytes: Uint8Array): DetectedFile[] {
  try {
    const { report, certTable } = parseSnpEvidence(bytes);
    return [
      { role: "report", bytes: report, platform: "snp" },
      ...(certTable === undefined ? [] : [{ role: "cert_table", bytes: certTable }]),
    ];
  } catch (error) {
    if (!(error instanceof SnpError)) throw error;
    return [{ role: "evidence_json", bytes, platform: "snp" }];
  }
}

/** Trustee's `{"quote": base64, "cc_eventlog": base64}`. */
function detectTrusteeTdx(object: JsonObject): DetectedFile[] {
  const part = (key: string): Uint8Array | undefined => {
    const value = object[key];
    return typeof value === "string" ? new Uint8Array(Buffer.from(value, "base64")) : undefined;
  };
  const quote = part("quote");
  if (quote === undefined || quote.length < 48) return [];
  const platform = quotePlatform(Buffer.from(quote));
  const log = part("cc_eventlog");
  return [
    { role: "quote", bytes: quote, ...(platform === undefined ? {} : { platform }) },
    ...(log === undefined ? [] : [{ role: "ccel", bytes: log }]),
  ];
}
