import { toHex } from "@shelter/base";
import type { CsvEvidence } from "./evidence.ts";

function u32(value: number): string {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes.toString("hex");
}

/** The values of evidence under the names Hygon's library gives them, hex for bytes. */
export function csvClaims({ report, pek, serialNumber }: CsvEvidence): Readonly<Record<string, unknown>> {
  const { policy } = report;
  return {
    version: report.version,
    user_pubkey_digest: toHex(report.userPubkeyDigest),
    vm_id: toHex(report.vmId),
    vm_version: toHex(report.vmVersion),
    report_data: toHex(report.reportData),
    mnonce: toHex(report.mnonce),
    measure: toHex(report.measure),
    policy: `0x${policy.raw.toString(16).padStart(8, "0")}`,
    policy_bits: {
      nodbg: Number(policy.nodbg),
      noks: Number(policy.noks),
      es: Number(policy.es),
      nosend: Number(policy.nosend),
      domain: Number(policy.domain),
      csv: Number(policy.csv),
      csv3: Number(policy.csv3),
      asid_reuse: Number(policy.asidReuse),
      hsk_version: policy.hskVersion,
      cek_version: policy.cekVersion,
      api_major: policy.apiMajor,
      api_minor: policy.apiMinor,
    },
    sig_usage: u32(report.sigUsage),
    sig_algo: u32(report.sigAlgo),
    ...(report.anonce === undefined ? {} : { anonce: toHex(report.anonce) }),
    ...(report.build === undefined ? {} : { build: report.build }),
    ...(report.rtmrVersion === undefined ? {} : { rtmr_version: report.rtmrVersion }),
    ...Object.fromEntries(report.rtmrs.map((value, i) => [`rtmr${i}`, toHex(value)])),
    ...(pek?.api === undefined ? {} : { pek_api: `${pek.api.major}.${pek.api.minor}` }),
    ...(serialNumber === undefined ? {} : { serial_number: serialNumber }),
  };
}
