import { describe, parseJson, ShelterError } from "@shelter/base";
import { parseAzureEvidence, parseHclReport } from "../azure/index.ts";
import { renderCca } from "../cca/index.ts";
import { renderCsv, renderCsvCertificate } from "../csv/index.ts";
import { type Field, field, group } from "../describe.ts";
import { renderEventLog } from "../eventlog/index.ts";
import { renderNitro } from "../nitro/index.ts";
import { renderQuote } from "../sgx/index.ts";
import { parseSnpEvidence, renderSnp } from "../snp/index.ts";
import {
  parseTpmEvidence,
  readPublicKeyFile,
  renderTpmPublic,
  renderTpmQuote,
  renderTpmSignature,
} from "../tpm/index.ts";
import { type Certificate, isPem, parseCertificates, parseCrl } from "../x509/index.ts";
import { type NamedFile, sortEvidence } from "./evidence.ts";
import type { Platform } from "./files.ts";

/**
 * Evidence decoded field by field, one group a file. What cannot be decoded says why in its place,
 * so that damaged evidence still shows whatever of it can be read.
 */
export function renderEvidence(files: readonly NamedFile[], platform?: Platform): readonly Field[] {
  const sorted = sortEvidence(files, platform);
  const groups = Object.entries(sorted.files).flatMap(([role, bytes]) =>
    bytes === undefined ? [] : [renderFile(sorted.platform, role, bytes)],
  );
  return [field("platform", sorted.platform), ...groups];
}

function renderFile(platform: Platform, role: string, bytes: Uint8Array): Field {
  try {
    return group(role, render(platform, role, bytes));
  } catch (error) {
    if (!(error instanceof ShelterError)) throw error;
    return { name: role, value: `cannot be decoded: ${describe(error)}` };
  }
}

function render(platform: Platform, role: string, bytes: Uint8Array): readonly Field[] {
  switch (role) {
    case "report":
      return platform === "csv" ? renderCsv(bytes) : renderSnp(bytes);
    case "quote":
      return platform === "tpm" ? renderTpmQuote(bytes) : renderQuote(bytes);
    case "td_quote":
      return renderQuote(bytes);
    case "tpm_quote":
      return renderTpmQuote(bytes);
    case "signature":
      return renderTpmSignature(bytes);
    case "ak_pub": {
      const { area, key } = readPublicKeyFile(bytes);
      return area === undefined
        ? [field("spki", key.export({ format: "der", type: "spki" }))]
        : renderTpmPublic(area);
    }
    case "event_log":
    case "ccel":
      return bytes.find((b) => b > 0x20) === 0x5b ? text(bytes) : renderEventLog(bytes);
    case "token":
      return renderCca(bytes);
    case "document":
      return renderNitro(bytes);
    case "hcl_report":
      return renderHcl(bytes);
    case "evidence_json":
      return renderJson(platform, bytes);
    case "hsk_cek":
      return [
        renderCsvCertificate(bytes.subarray(0, 832), "hsk"),
        renderCsvCertificate(bytes.subarray(832), "cek"),
      ];
    default:
      return renderCollateral(bytes);
  }
}

function text(bytes: Uint8Array): readonly Field[] {
  return [field("json", new TextDecoder().decode(bytes))];
}

function renderHcl(bytes: Uint8Array): readonly Field[] {
  const hcl = parseHclReport(bytes);
  return [
    field("version", hcl.version),
    field("report_type", `${hcl.reportType} (${hcl.kind})`),
    ...(hcl.kind === "snp" ? [group("hardware_report", renderSnp(hcl.hardwareReport))] : []),
    field("var_data_hash", hcl.varDataHash),
    field("var_data", new TextDecoder().decode(hcl.varData)),
  ];
}

function renderJson(platform: Platform, bytes: Uint8Array): readonly Field[] {
  if (platform === "csv") return renderCsv(bytes);
  if (platform === "snp") return renderSnp(parseSnpEvidence(bytes).report);
  const json = new TextDecoder().decode(bytes);
  if (platform === "tpm") {
    const evidence = parseTpmEvidence(parseJson(json, "tpm evidence"));
    return [
      group("message", renderTpmQuote(evidence.quote.raw)),
      ...(evidence.akTpmPublic === undefined
        ? []
        : [group("ak_tpm_public", renderTpmPublic(evidence.akTpmPublic))]),
      ...(evidence.ekCertificate === undefined
        ? []
        : [group("ek_certificate", renderCertificate(evidence.ekCertificate))]),
    ];
  }
  const evidence = parseAzureEvidence(json);
  return [
    group("message", renderTpmQuote(evidence.quote.raw)),
    field("var_data", new TextDecoder().decode(evidence.hcl.varData)),
    ...(evidence.tdQuote === undefined
      ? [group("hardware_report", renderSnp(evidence.hcl.hardwareReport))]
      : [group("td_quote", renderQuote(evidence.tdQuote))]),
  ];
}

function renderCollateral(bytes: Uint8Array): readonly Field[] {
  const first = bytes.find((b) => b > 0x20);
  if (first === 0x7b || first === 0x5b) return text(bytes);
  if (isPem(bytes) || first === 0x30) {
    try {
      return parseCertificates(bytes).map((c, i) => group(`certificate ${i}`, renderCertificate(c)));
    } catch {
      const crl = parseCrl(bytes);
      return [
        field("issuer", crl.issuer.text),
        field("thisUpdate", new Date(crl.thisUpdate)),
        ...(crl.nextUpdate === undefined ? [] : [field("nextUpdate", new Date(crl.nextUpdate))]),
        field("revokedCertificates", [...crl.revoked].join(" ")),
      ];
    }
  }
  return [field("bytes", bytes)];
}

function renderCertificate(c: Certificate): readonly Field[] {
  return [
    field("serialNumber", c.serial),
    field("issuer", c.issuer.text),
    field("notBefore", new Date(c.notBefore)),
    field("notAfter", new Date(c.notAfter)),
    field("subject", c.subject.text),
    field("subjectPublicKeyInfo", c.publicKey.name),
    field("signatureAlgorithm", c.signatureAlgorithm.name),
    field(
      "extensions",
      [...c.extensions.values()].map((e) => `${e.oid}${e.critical ? " (critical)" : ""}`).join(" "),
    ),
  ];
}
