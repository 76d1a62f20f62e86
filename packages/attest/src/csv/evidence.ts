import { fromBase64, type JsonObject, parseJson } from "@shelter/base";
import { type CsvCertificate, parseCaCertificate, parseChipCertificate } from "./certificate.ts";
import { CsvError } from "./error.ts";
import {
  bytesAt,
  caCertificateBytes,
  chipCertificateBytes,
  numberAt,
  objectAt,
  teeInfoBytes,
} from "./json.ts";
import { type CsvReport, type CsvWrapper, parseCsvReport, readSerialNumber } from "./report.ts";

/** CSV evidence: a report and what came with it. */
export interface CsvEvidence {
  readonly report: CsvReport;
  /** The PEK certificate, from beside the report or from inside it. */
  readonly pek: CsvCertificate | undefined;
  /** HSK and CEK, where the evidence brings them. */
  readonly hsk: CsvCertificate | undefined;
  readonly cek: CsvCertificate | undefined;
  readonly serialNumber: string | undefined;
  /** Confidential computing event log (CCEL), raw. */
  readonly eventLog: Uint8Array | undefined;
}

const MAX_JSON = 8 * 1024 * 1024; // lists of numbers quadruple the bytes; a log may have a megabyte
const MAX_LOG = 4 * 1024 * 1024;

/** Reads evidence: Trustee's `csv` JSON, with the report wrapped or in its older split form, or a raw report. */
export function parseCsvEvidence(bytes: Uint8Array, wrapper?: CsvWrapper): CsvEvidence {
  if (wrapper === undefined && firstCharacter(bytes) === 0x7b) return parseTrustee(bytes);
  const report = parseCsvReport(bytes, wrapper);
  const { signer } = report;
  return {
    report,
    pek: signer && parseChipCertificate(signer.pek, "pek"),
    hsk: undefined,
    cek: undefined,
    serialNumber: signer?.serialNumber,
    eventLog: undefined,
  };
}

/** The first byte that is not JSON's white space. */
function firstCharacter(bytes: Uint8Array): number | undefined {
  return bytes.subarray(0, 64).find((b) => b !== 0x20 && b !== 0x0a && b !== 0x0d && b !== 0x09);
}

function parseTrustee(bytes: Uint8Array): CsvEvidence {
  const what = "csv evidence";
  if (bytes.byteLength > MAX_JSON) {
    throw new CsvError("CSV_EVIDENCE_MALFORMED", `${what}: ${bytes.byteLength} bytes, at most ${MAX_JSON}`);
  }
  const json = parseJson(new TextDecoder().decode(bytes), what);
  if (json === null || typeof json !== "object" || Array.isArray(json)) {
    throw new CsvError("CSV_EVIDENCE_MALFORMED", `${what}: not an object`);
  }
  const root = json as JsonObject;
  const at = "attestation_report";
  const wrapped = objectAt(root, at, what);
  const report =
    wrapped["body"] === undefined
      ? parseCsvReport(bytesAt(wrapped, "data", 4096, at), {
          magic: bytesAt(wrapped, "magic", 16, at),
          flags: numberAt(wrapped, "flags", 32, at),
        })
      : parseCsvReport(teeInfoBytes(wrapped, at), { magic: new Uint8Array(16), flags: 0 });
  const chain = objectAt(root, "cert_chain", what);
  const pek = parseChipCertificate(chipCertificateBytes(objectAt(chain, "pek", "cert_chain"), "pek"), "pek");
  // hsk_cek is one member in the present form; in an older one its two parts stand in the chain itself.
  const hskCek =
    chain["hsk"] !== undefined
      ? chain
      : chain["hsk_cek"] == null
        ? undefined
        : objectAt(chain, "hsk_cek", "cert_chain");
  const serial = root["serial_number"] === undefined ? undefined : bytesAt(root, "serial_number", 64, what);
  return {
    report,
    pek,
    hsk: hskCek && parseCaCertificate(caCertificateBytes(objectAt(hskCek, "hsk", "hsk_cek"), "hsk"), "hsk"),
    cek:
      hskCek && parseChipCertificate(chipCertificateBytes(objectAt(hskCek, "cek", "hsk_cek"), "cek"), "cek"),
    serialNumber: serial && readSerialNumber(serial),
    eventLog: readEventLog(root["cc_eventlog"]),
  };
}

function readEventLog(value: JsonObject[string]): Uint8Array | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string" || value.length > (MAX_LOG * 4) / 3) {
    throw new CsvError("CSV_EVIDENCE_MALFORMED", "csv evidence: cc_eventlog: not base64 of at most 4 MiB");
  }
  return fromBase64(value);
}
