import { deepEqual, equal, throws } from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { judgeEvidence, parseSnpEvidence, sortEvidence } from "@shelter/attest";
import { type Json, type JsonObject, toHex } from "@shelter/base";

const FOLDER = join(import.meta.dirname, "../../../../shared/evidence/snp");
const skip = existsSync(FOLDER) ? false : `no evidence corpus at ${FOLDER}`;
const read = (...path: string[]): Uint8Array => new Uint8Array(readFileSync(join(FOLDER, ...path)));
const at = new Date("2026-01-01T00:00:00Z");

/** A report as the crate `sev` declares and serialises it, from its bytes. */
function serde(bytes: Uint8Array): Record<string, Json> {
  const b = Buffer.from(bytes);
  const list = (offset: number, size: number): number[] => [...b.subarray(offset, offset + size)];
  const byte = (offset: number): number => b.readUInt8(offset);
  const version = b.readUInt32LE(0);
  const turin = version >= 3 && byte(0x188) === 0x1a;
  const tcb = (o: number): JsonObject =>
    turin
      ? { fmc: byte(o), bootloader: byte(o + 1), tee: byte(o + 2), snp: byte(o + 3), microcode: byte(o + 7) }
      : { fmc: null, bootloader: byte(o), tee: byte(o + 1), snp: byte(o + 6), microcode: byte(o + 7) };
  const firmware = (o: number): JsonObject => ({ major: byte(o + 2), minor: byte(o + 1), build: byte(o) });
  const u64 = (o: number): number => Number(b.readBigUInt64LE(o));
  return {
    version,
    guest_svn: b.readUInt32LE(4),
    policy: u64(8),
    family_id: list(0x10, 16),
    image_id: list(0x20, 16),
    vmpl: b.readUInt32LE(0x30),
    sig_algo: b.readUInt32LE(0x34),
    current_tcb: tcb(0x38),
    plat_info: u64(0x40),
    key_info: b.readUInt32LE(0x48),
    report_data: list(0x50, 64),
    measurement: list(0x90, 48),
    host_data: list(0xc0, 32),
    id_key_digest: list(0xe0, 48),
    author_key_digest: list(0x110, 48),
    report_id: list(0x140, 32),
    report_id_ma: list(0x160, 32),
    reported_tcb: tcb(0x180),
    cpuid_fam_id: version >= 3 ? byte(0x188) : null,
    cpuid_mod_id: version >= 3 ? byte(0x189) : null,
    cpuid_step: version >= 3 ? byte(0x18a) : null,
    chip_id: list(0x1a0, 64),
    committed_tcb: tcb(0x1e0),
    current: firmware(0x1e8),
    committed: firmware(0x1ec),
    launch_tcb: tcb(0x1f0),
    launch_mit_vector: version >= 5 ? u64(0x1f8) : null,
    current_mit_vector: version >= 5 ? u64(0x200) : null,
    signature: { r: list(0x2a0, 72), s: list(0x2e8, 72) },
  };
}

const encode = (report: Json, chain: Json = null): Uint8Array =>
  Buffer.from(JSON.stringify({ attestation_report: report, cert_chain: chain }));

const SAMPLES = [
  ["milan-v2-virtee", "vcek.der"],
  ["milan-v3-oak", "vcek.der"],
  ["genoa-v5-lunal", "vcek.der"],
  ["turin-v5-oak", "vcek.der"],
  ["milan-vlek-aws-2024", "vlek.der"],
] as const;

for (const [name, key] of SAMPLES) {
  test(`${name} comes back byte for byte from Trustee's form, and is judged as before`, { skip }, () => {
    const report = read(name, "report.bin");
    const vek = read(name, key);
    deepEqual(parseSnpEvidence(encode(serde(report))).report, report);
    const chain = [{ cert_type: key === "vlek.der" ? "VLEK" : "VCEK", data: [...vek] }];
    const json = { name: "evidence.json", bytes: encode(serde(report), chain) };
    equal(sortEvidence([json]).platform, "snp");
    const raw = judgeEvidence({
      files: [{ name: "report.bin", bytes: report }],
      collateral: [{ name: key, bytes: vek }],
      at,
    });
    const verdict = judgeEvidence({ files: [json], at });
    equal(verdict.outcome, raw.outcome);
    const outcomes = (v: typeof verdict): string => v.checks.map((c) => `${c.name} ${c.ok}`).join();
    equal(outcomes(verdict), outcomes(raw));
    equal(verdict.checks.find((c) => c.name === "report-signature")?.ok, true);
  });
}

test("what a report cannot hold is refused by name", { skip }, () => {
  const good = serde(read("genoa-v5-lunal", "report.bin"));
  const refused: readonly [Record<string, Json>, RegExp][] = [
    [{ version: 6 }, /version: 6 is none of 2 to 5/],
    [{ version: 2 }, /cpuid_fam_id: a report has it from version 3 on/],
    [{ version: 4, launch_mit_vector: 1 }, /launch_mit_vector: a report has it from version 5 on/],
    [{ plat_info: 2 ** 60 }, /plat_info: beyond 2\^53/],
    [{ vmpl: -1 }, /vmpl: not a number of 32 bits/],
    [{ vmpl: "0" }, /vmpl: not a number/],
    [{ chip_id: [1, 2] }, /chip_id: 2 bytes, expected 64/],
    [{ host_data: Array(32).fill(256) }, /host_data\[0\]: not a byte/],
    [{ current_tcb: { bootloader: 1 } }, /current_tcb.tee: missing/],
    [{ current_tcb: null }, /current_tcb: not an object/],
    [{ current: { major: 1, minor: 1, build: 1, patch: 1 } }, /current.patch: not known/],
    [{ signature: { r: [], s: [] } }, /signature.r: 0 bytes, expected 72/],
    [{ _author_key_en: 1 }, /_author_key_en: no member of a report this knows/],
  ];
  for (const [change, message] of refused) {
    const bytes = encode({ ...good, ...change });
    throws(() => parseSnpEvidence(bytes), { code: "SNP_REPORT_MALFORMED", message });
    const verdict = judgeEvidence({ files: [{ name: "evidence.json", bytes }], at });
    equal(verdict.outcome, "malformed");
  }
  for (const key of Object.keys(good)) {
    const { [key]: _, ...rest } = good;
    throws(() => parseSnpEvidence(encode(rest)), { code: "SNP_REPORT_MALFORMED" }, key);
  }
  const twice = { cert_type: "VCEK", data: [1] };
  throws(() => parseSnpEvidence(encode(good, [twice, twice])), { message: /cert_chain\[1\]: a second VCEK/ });
  const other = parseSnpEvidence(encode(good, [{ cert_type: { OTHER: "uuid" }, data: [] }]));
  equal(toHex(other.certTable ?? new Uint8Array()), "00".repeat(24));
});
