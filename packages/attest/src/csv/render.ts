import { type Field, field, group } from "../describe.ts";
import { type CsvCertificate, parseCaCertificate, parseChipCertificate, usageName } from "./certificate.ts";
import { parseCsvEvidence } from "./evidence.ts";
import type { CsvWrapper } from "./report.ts";

/** Decoded CSV evidence, named as Hygon's structures name it; version 1 is shown unmasked. */
export function renderCsv(evidence: Uint8Array, wrapper?: CsvWrapper): readonly Field[] {
  const { report, pek, hsk, cek, serialNumber } = parseCsvEvidence(evidence, wrapper);
  const { policy } = report;
  const info = [
    field("version", report.version),
    field("user_pubkey_digest", report.userPubkeyDigest),
    field("vm_id", report.vmId),
    field("vm_version", report.vmVersion),
    field("report_data", report.reportData),
    field("mnonce", report.mnonce),
    field("measure", report.measure),
    group(
      "policy",
      [
        field("NODBG", policy.nodbg),
        field("NOKS", policy.noks),
        field("ES", policy.es),
        field("NOSEND", policy.nosend),
        field("DOMAIN", policy.domain),
        field("CSV", policy.csv),
        field("CSV3", policy.csv3),
        field("ASID_REUSE", policy.asidReuse),
        field("HSK_VERSION", policy.hskVersion),
        field("CEK_VERSION", policy.cekVersion),
        field("API_MAJOR", policy.apiMajor),
        field("API_MINOR", policy.apiMinor),
      ],
      `0x${policy.raw.toString(16).padStart(8, "0")}`,
    ),
    field("sig_usage", usageName(report.sigUsage)),
    field("sig_algo", report.sigAlgo),
  ];
  if (report.anonce !== undefined) info.push(field("anonce", report.anonce));
  if (report.build !== undefined) info.push(field("build", report.build));
  if (report.rtmrVersion !== undefined) info.push(field("rtmr_version", report.rtmrVersion));
  for (const [i, value] of report.rtmrs.entries()) info.push(field(`rtmr${i}`, value));
  info.push(signatureField("sig", report.signature));
  const fields = [group("tee_info", info)];
  for (const [name, certificate] of [
    ["pek", pek],
    ["cek", cek],
    ["hsk", hsk],
  ] as const) {
    if (certificate !== undefined) fields.push(renderCsvCertificate(certificate, name));
  }
  if (serialNumber !== undefined) fields.push(field("serial_number", serialNumber));
  if (report.signer !== undefined) fields.push(field("mac", report.signer.mac));
  return fields;
}

function signatureField(name: string, value: Uint8Array | undefined): Field {
  if (value === undefined) return field(name, "exceeds 256 bits");
  return group(name, [field("r", value.subarray(0, 32)), field("s", value.subarray(32))]);
}

/** One Hygon certificate, parsed or as its bytes. */
export function renderCsvCertificate(certificate: CsvCertificate | Uint8Array, name: string): Field {
  if (certificate instanceof Uint8Array) {
    const parse = certificate.byteLength === 832 ? parseCaCertificate : parseChipCertificate;
    return renderCsvCertificate(parse(certificate, name), name);
  }
  const c = certificate;
  const fields = [field("version", c.version)];
  if (c.keyId !== undefined) fields.push(field("key_id", c.keyId));
  fields.push(field("signing_key_id", c.signerId), field("key_usage", usageName(c.usage)));
  if (c.api !== undefined) fields.push(field("api", `${c.api.major}.${c.api.minor}`));
  if (c.algorithm !== undefined) fields.push(field("key_algo", c.algorithm));
  fields.push(field("pubkey", c.publicKey), field("user_id", Buffer.from(c.userId).toString("latin1")));
  for (const [i, s] of c.signatures.entries()) {
    if (s.usage !== undefined && usageName(s.usage) === "none") continue;
    const label = c.signatures.length === 1 ? "sig" : `sig${i + 1} (${usageName(s.usage)})`;
    fields.push(signatureField(label, s.value));
  }
  return group(name, fields);
}
