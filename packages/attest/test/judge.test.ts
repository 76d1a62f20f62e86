import assert from "node:assert/strict";
import { test } from "node:test";
import {
  CollateralSet,
  collateralRequests,
  fieldLines,
  judgeEvidence,
  judgeRoles,
  type Platform,
  parseExpectations,
  recognise,
  renderEvidence,
  sortEvidence,
} from "@shelter/attest";
import { fromHex } from "@shelter/base";
import { corpusAbsent, corpusFile, corpusItem } from "./snp-corpus.ts";

const skip = corpusAbsent ?? false;

function named(tee: string, id: string, roles: readonly string[]): { name: string; bytes: Uint8Array }[] {
  const item = corpusItem(tee, id);
  return roles.flatMap((role) => {
    const bytes = corpusFile(item, role);
    return bytes === undefined ? [] : [{ name: role, bytes }];
  });
}

const DCAP = ["tcb_info", "qe_identity", "tcb_info_chain", "pck_crl", "pck_crl_chain", "root_crl"];

for (const [platform, tee, id, evidence] of [
  ["snp", "snp", "milan-v3-oak", ["report"]],
  ["tdx", "tdx", "tdx-v4-b0c06f-uptodate", ["quote"]],
  ["sgx", "sgx", "sgx-v3-00606a-debug", ["quote"]],
  ["csv", "csv", "csv-v1-full-chain", ["report"]],
  ["tpm", "tpm", "tpm-gce-cos-85-nonce9009", ["quote", "signature", "ak_pub", "pcrs", "event_log"]],
  ["az-snp-vtpm", "tpm", "az-snp-milan-v1", ["evidence_json"]],
  ["az-tdx-vtpm", "tpm", "az-tdx-v1", ["evidence_json"]],
  ["cca", "cca", "cca-tfrmm-token01", ["token"]],
  ["nitro", "nitro", "nitro-2022-veracruz", ["document"]],
] as const) {
  test(`recognises ${platform} evidence by its content and prints it`, { skip }, () => {
    const files = named(tee, id, evidence).map((file, i) => ({ ...file, name: `file ${i}` }));
    assert.equal(files.length, evidence.length);
    const sorted = sortEvidence(files);
    assert.equal(sorted.platform, platform satisfies Platform);
    assert.deepEqual(Object.keys(sorted.files).sort(), [...evidence].sort());
    const lines = fieldLines(renderEvidence(files));
    assert.equal(lines[0], `platform: ${platform}`);
    assert.ok(lines.length > 20, lines.join("\n"));
    assert.ok(!lines.some((line) => line.includes("cannot be decoded")), lines.join("\n"));
  });
}

test("chooses from a cache of many platforms the collateral that fits", { skip }, () => {
  const cache = new CollateralSet([
    ...named("tdx", "tdx-v4-b0c06f-uptodate", DCAP),
    ...named("tdx", "tdx-v4-90c06f-dstack-eventlog", DCAP),
    ...named("sgx", "sgx-v3-00606a-swhardening", DCAP),
    ...named("snp", "milan-v3-oak", ["vek", "ca"]),
    ...named("snp", "genoa-v5-lunal", ["vek", "ca"]),
    { name: "notes.txt", bytes: Buffer.from("nothing of use") },
  ]);
  assert.deepEqual(cache.unknown, ["notes.txt"]);
  for (const [tee, id, role] of [
    ["tdx", "tdx-v4-b0c06f-uptodate", "quote"],
    ["tdx", "tdx-v4-90c06f-dstack-eventlog", "quote"],
    ["snp", "milan-v3-oak", "report"],
    ["snp", "genoa-v5-lunal", "report"],
  ] as const) {
    const item = corpusItem(tee, id);
    const verdict = judgeEvidence({
      files: named(tee, id, [role]),
      collateral: cache,
      at: new Date(item.verify_at),
    });
    assert.equal(
      verdict.outcome,
      "accepted",
      `${id}: ${JSON.stringify(verdict.checks.filter((c) => !c.ok))}`,
    );
  }
});

test("names what is missing and where to fetch it, from Intel, a PCCS, AMD and Hygon", { skip }, () => {
  const of = (tee: string, id: string, role: string): readonly string[] =>
    judgeEvidence({
      files: named(tee, id, [role]),
      at: new Date(corpusItem(tee, id).verify_at),
    }).missing;
  const tdx = of("tdx", "tdx-v4-b0c06f-uptodate", "quote");
  assert.deepEqual(
    collateralRequests(tdx).requests.map((r) => r.url),
    [
      "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?ca=platform&encoding=der",
      "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der",
      "https://api.trustedservices.intel.com/tdx/certification/v4/tcb?fmspc=B0C06F000000",
      "https://api.trustedservices.intel.com/tdx/certification/v4/qe/identity",
    ],
  );
  const pccs = collateralRequests(tdx, { pcs: "https://pccs.local:8081/" });
  assert.deepEqual(pccs.unavailable, []);
  assert.deepEqual(
    pccs.requests.map((r) => [r.url, r.form]),
    [
      ["https://pccs.local:8081/sgx/certification/v4/pckcrl?ca=platform&encoding=der", "binary"],
      ["https://pccs.local:8081/sgx/certification/v4/rootcacrl", "hex"],
      ["https://pccs.local:8081/tdx/certification/v4/tcb?fmspc=B0C06F000000", "json"],
      ["https://pccs.local:8081/tdx/certification/v4/qe/identity", "json"],
    ],
  );
  const snp = collateralRequests(of("snp", "milan-v3-oak", "report"), { kds: "https://kds.local" });
  assert.match(
    snp.requests[0]?.url ?? "",
    /^https:\/\/kds\.local\/vcek\/v1\/Milan\/[0-9a-f]{128}\?blSPL=\d\d&teeSPL=\d\d&snpSPL=\d\d&ucodeSPL=\d+$/,
  );
  const turin = collateralRequests(of("snp", "turin-v5-oak", "report"));
  assert.match(turin.requests[0]?.url ?? "", /\/vcek\/v1\/Turin\/[0-9a-f]{16}\?fmcSPL=\d\d&blSPL=/);
  const csv = collateralRequests(of("csv", "csv-v1-full-chain", "report"));
  assert.deepEqual(
    csv.requests.map((r) => r.url),
    ["https://cert.hygon.cn/hsk_cek?snumber=NZA9T14052605"],
  );
  assert.deepEqual(collateralRequests(["a crystal ball"]), { requests: [], unavailable: ["a crystal ball"] });
});

test("says what a piece of collateral is, and from when until when it holds", { skip }, () => {
  const [tcb] = named("tdx", "tdx-v4-b0c06f-uptodate", ["tcb_info"]);
  const piece = recognise("x", tcb?.bytes ?? new Uint8Array());
  assert.equal(piece?.what, "tcb info of B0C06F000000 (TDX)");
  assert.equal(new Date(piece?.notBefore ?? 0).toISOString(), "2025-06-19T10:16:03.000Z");
  assert.ok((piece?.notAfter ?? 0) > (piece?.notBefore ?? 0));
});

test("refuses evidence of two platforms, two files of one role and what it does not know", { skip }, () => {
  const snp = named("snp", "milan-v3-oak", ["report"]);
  const tdx = named("tdx", "tdx-v4-b0c06f-uptodate", ["quote"]);
  assert.throws(() => sortEvidence([...snp, ...tdx]), { message: "the files are evidence of snp and tdx" });
  assert.throws(() => sortEvidence([...snp, ...snp]), { message: "report: a second report" });
  const noise = { name: "noise", bytes: new Uint8Array(33).fill(0x5a) };
  assert.throws(() => sortEvidence([noise]), { code: "EVIDENCE_UNKNOWN" });
  // Told what it is, the verifier says what is wrong with it.
  assert.equal(judgeEvidence({ files: [noise], platform: "snp", at: new Date(0) }).outcome, "malformed");
});

test("judges Azure evidence only when its JSON and the files beside it agree", { skip }, () => {
  const item = corpusItem("tpm", "az-snp-milan-v1");
  const roles = ["evidence_json", "hcl_report", "tpm_quote", "tpm_signature", "var_data", "ca", "root"];
  const files = Object.fromEntries(roles.map((role) => [role, corpusFile(item, role)]));
  const judge = (change: Record<string, Uint8Array> = {}) =>
    judgeRoles({
      platform: "az-snp-vtpm",
      files: { ...files, ...change },
      at: new Date(item.verify_at),
      expect: { reportData: Buffer.from("challenge") },
    });
  assert.equal(judge().outcome, "accepted");
  const report = Uint8Array.from(files["hcl_report"] ?? []);
  report[0x100] = (report[0x100] ?? 0) ^ 1;
  const differing = judge({ hcl_report: report });
  assert.equal(differing.outcome, "untrusted");
  assert.equal(differing.checks.at(-1)?.detail, "the evidence and hcl_report beside it differ");
  const { evidence_json: _, ...split } = files;
  const vek = corpusFile(item, "vek");
  const alone = (changed: Record<string, Uint8Array | undefined>) =>
    judgeRoles({
      platform: "az-snp-vtpm",
      files: { ...split, vek, ...changed },
      at: new Date(item.verify_at),
      expect: { reportData: Buffer.from("challenge") },
    }).outcome;
  assert.equal(alone({}), "accepted");
  for (let at = 0; at < report.length; at += 97) {
    const changed = Uint8Array.from(files["hcl_report"] ?? []);
    changed[at] = (changed[at] ?? 0) ^ 0x04;
    // The paravisor's header is not covered by anything and says nothing that is believed.
    if ((at >= 4 && at < 8) || (at >= 12 && at < 32) || (at >= 1220 && at < 1224)) continue;
    assert.notEqual(alone({ hcl_report: changed }), "accepted", `byte ${at}`);
  }
});

test("refuses a trust domain's event log that shows data other than what was measured", { skip }, () => {
  const id = "tdx-v4-00806f-gce-cos113-ccel";
  const item = corpusItem("tdx", id);
  const files = Object.fromEntries(Object.keys(item.files).map((role) => [role, corpusFile(item, role)]));
  const judge = (ccel: Uint8Array | undefined) =>
    judgeRoles({ platform: "tdx", files: { ...files, ccel }, at: new Date(item.verify_at), expect: {} })
      .outcome;
  assert.equal(judge(files["ccel"]), "accepted");
  const forged = Uint8Array.from(files["ccel"] ?? []);
  const at = Buffer.from(forged).indexOf(Buffer.from("Exit Boot Services Invocation"));
  assert.ok(at > 0);
  forged[at] = 0x65;
  assert.equal(judge(forged), "refused");
});

test("reads expectations, and refuses keys and values it would not compare", () => {
  const read = parseExpectations(
    '{"nonce":"00ff","measurements":["aa"],"pcrs":[{"4":"AB"}],"allowDebug":true}',
  );
  assert.deepEqual(read, {
    reportData: fromHex("00ff"),
    measurements: [fromHex("aa")],
    pcrs: [{ pcrs: { 4: "ab" } }],
    allowDebug: true,
  });
  for (const [json, message] of [
    ['{"measurement":"aa"}', 'expectations: "measurement" is not known'],
    ['{"measurements":"aa"}', "expectations: measurements is not a list"],
    ['{"nonce":"0"}', "expectations: nonce is not hex"],
    ['{"nonce":"00","reportData":"00"}', "expectations: reportData and nonce are two names of one thing"],
    ['{"pcrs":[{"x":"00"}]}', "expectations: pcrs[0]: x is no register"],
    ['{"allowDebug":1}', "expectations: allowDebug is neither true nor false"],
    ['{"nonce":"00","nonce":"01"}', 'expectations has the key "nonce" twice'],
  ] as const) {
    assert.throws(() => parseExpectations(json), { message });
  }
  assert.throws(() => parseExpectations('{"allowTcbStatuses":["Revoked"]}'), /is none of/);
});
