import { createHash, createPublicKey, type KeyObject } from "node:crypto";
import { ByteReader, type Json, type JsonObject, parseJson } from "@shelter/base";
import { AzureError } from "./error.ts";

/**
 * The report the paravisor (HCL) of an Azure confidential VM puts into its vTPM: a hardware report,
 * and the runtime data whose digest that report carries as report data.
 */
export interface HclReport {
  readonly version: number;
  /** What the hardware report is. */
  readonly kind: "snp" | "tdx";
  readonly reportType: number;
  /** The hardware report area: an SNP report, or a TDREPORT and padding. */
  readonly hardwareReport: Uint8Array;
  /** The runtime data as signed: JSON. */
  readonly varData: Uint8Array;
  /** Digest of the runtime data, by the algorithm the report names. */
  readonly varDataHash: Uint8Array;
  /** The vTPM's attestation key (`HCLAkPub`). */
  readonly akPublic: KeyObject;
  /** User data the guest wrote, 64 bytes of hex as a rule. */
  readonly userData: string | undefined;
  readonly vmConfiguration: JsonObject;
}

const MAGIC = "HCLA";
const HEADER_SIZE = 32;
const HARDWARE_REPORT_SIZE = 1184;
const DATA_HEADER_SIZE = 20;
const MAX_VAR_DATA = 64 * 1024;
const REPORT_TYPES: Readonly<Record<number, "snp" | "tdx">> = { 2: "snp", 4: "tdx" };
const HASHES: Readonly<Record<number, string>> = { 1: "sha256", 2: "sha384", 3: "sha512" };
/** vTPM NV space is larger than the report; what lies behind is zeros and belongs to nobody. */
const MAX_SIZE = HEADER_SIZE + HARDWARE_REPORT_SIZE + DATA_HEADER_SIZE + MAX_VAR_DATA;

function bad(message: string, cause?: unknown): AzureError {
  return new AzureError("HCL_REPORT_MALFORMED", `hcl report: ${message}`, { cause });
}

/** Parses an HCL report. */
export function parseHclReport(bytes: Uint8Array): HclReport {
  if (bytes.length > MAX_SIZE) throw bad(`${bytes.length} bytes, at most ${MAX_SIZE}`);
  const reader = new ByteReader(bytes, "hcl report");
  const magic = Buffer.from(reader.take(4)).toString("latin1");
  if (magic !== MAGIC) throw bad(`magic ${JSON.stringify(magic)} is not ${MAGIC}`);
  const version = reader.u32le();
  const reportSize = reader.u32le();
  reader.skip(HEADER_SIZE - 12); // request type, status, reserved: said by the host, believed by nobody
  const hardwareReport = reader.take(HARDWARE_REPORT_SIZE);
  const dataSize = reader.u32le();
  reader.u32le(); // version
  const reportType = reader.u32le();
  const hashType = reader.u32le();
  const varData = reader.take(reader.u32le());
  if (dataSize !== DATA_HEADER_SIZE + varData.length || reportSize !== reader.offset) {
    throw bad(`sizes ${reportSize} and ${dataSize} do not fit ${varData.length} bytes of runtime data`);
  }
  const kind = REPORT_TYPES[reportType];
  const hash = HASHES[hashType];
  if (kind === undefined) throw bad(`report type ${reportType} is neither SNP (2) nor TDX (4)`);
  if (hash === undefined) throw bad(`hash type ${hashType}`);
  if (reader.take(reader.remaining).some((b) => b !== 0)) throw bad("data behind the runtime data");
  const claims = readClaims(varData);
  return {
    version,
    kind,
    reportType,
    hardwareReport,
    varData,
    varDataHash: createHash(hash).update(varData).digest(),
    akPublic: readAttestationKey(claims),
    userData: typeof claims["user-data"] === "string" ? claims["user-data"] : undefined,
    vmConfiguration: object(claims["vm-configuration"]) ?? {},
  };
}

function object(value: Json | undefined): JsonObject | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as JsonObject)
    : undefined;
}

function readClaims(varData: Uint8Array): JsonObject {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(varData);
  } catch (cause) {
    throw bad("runtime data is not UTF-8", cause);
  }
  const claims = object(parseJson(text, "hcl runtime data"));
  if (claims === undefined) throw bad("runtime data is not a JSON object");
  return claims;
}

function readAttestationKey(claims: JsonObject): KeyObject {
  const list = claims["keys"];
  const keys = (Array.isArray(list) ? list : []).map((key: Json) => object(key));
  const found = keys.filter((key) => key?.["kid"] === "HCLAkPub");
  const [key] = found;
  if (found.length !== 1 || key === undefined)
    throw bad(`${found.length} keys are named HCLAkPub, expected one`);
  const { kty, n, e } = key;
  if (kty !== "RSA" || typeof n !== "string" || typeof e !== "string")
    throw bad("HCLAkPub is not an RSA key");
  try {
    return createPublicKey({ key: { kty, n, e }, format: "jwk" });
  } catch (cause) {
    throw bad("HCLAkPub is not a usable key", cause);
  }
}
