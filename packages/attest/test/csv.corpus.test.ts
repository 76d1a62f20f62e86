import assert from "node:assert/strict";
import { test } from "node:test";
import { HYGON_HRK, renderCsv, verifyCsv, verifyHrk } from "../src/csv/index.ts";
import { AGREES, corpus, csvInput, failures, item, needed, skip } from "./csv-cca-nitro-corpus.ts";

/** The failing check that stands for a reason of the corpus. */
const REASON: Readonly<Record<string, RegExp>> = {
  "signature-invalid": /^report-signature$/,
  truncated: /^report-form$/,
  "nonce-mismatch": /^report-data$/,
  "chain-invalid": /^cek-signature$/,
  "missing-collateral": /^collateral$/,
  "eventlog-mismatch": /^event-log-rtmr\d$/,
};

for (const of of corpus("csv")) {
  test(`${of.id}: ${of.expected.verdict}`, () => {
    const verdict = verifyCsv(csvInput(of));
    assert.ok(
      AGREES[of.expected.verdict].includes(verdict.outcome),
      `${verdict.outcome}: ${failures(verdict)}`,
    );
    for (const reason of of.expected.reasons ?? []) {
      const failed = verdict.checks.filter((c) => !c.ok).map((c) => c.name);
      const expected = REASON[reason];
      assert.ok(expected, `no check stands for ${reason}`);
      assert.ok(
        failed.some((name) => expected.test(name)),
        `${reason}: ${failures(verdict)}`,
      );
    }
    if (of.expected.verdict === "invalid" && of.expected.crypto === "fail") return;
    for (const [name, value] of Object.entries(of.expected.fields ?? {})) {
      assert.deepEqual(verdict.claims[name], value, name);
    }
  });
}

test("the corpus has CSV items", { skip }, () => {
  assert.ok(corpus("csv").length >= 9);
});

test("the built-in root is Hygon's", { skip }, () => {
  assert.deepEqual(Buffer.from(HYGON_HRK), Buffer.from(needed(item("hygon-hrk"), "hrk")));
  const verdict = verifyHrk(HYGON_HRK);
  assert.equal(verdict.outcome, "accepted", failures(verdict));
  assert.deepEqual(verdict.claims, item("hygon-hrk").expected.fields);
  const of = item("csv-v1-full-chain");
  const { root: _, ...without } = csvInput(of);
  assert.equal(verifyCsv(without).outcome, "accepted");
});

test("a chain under a test root is not trusted under Hygon's", { skip }, () => {
  const { root: _, ...without } = csvInput(item("csv-v2-synthetic"));
  const verdict = verifyCsv(without);
  assert.equal(verdict.outcome, "untrusted");
  assert.ok(verdict.checks.some((c) => c.name === "hsk-signature" && !c.ok));
});

test("the form of a raw report is recognised without its wrapper", { skip }, () => {
  const { wrapper: _, ...v2 } = csvInput(item("csv-v2-synthetic"));
  assert.equal(verifyCsv(v2).outcome, "accepted");
  const v1 = csvInput(item("csv-v1-full-chain"));
  const page = new Uint8Array(4096);
  page.set(v1.evidence);
  assert.equal(verifyCsv({ ...v1, evidence: page }).outcome, "accepted");
});

test("prints every structure of evidence", { skip }, () => {
  const names = renderCsv(csvInput(item("csv-v1-full-chain")).evidence).map((f) => f.name);
  assert.deepEqual(names, ["tee_info", "pek", "serial_number", "mac"]);
});

test("another root certificate is not Hygon's, however well it signs itself", { skip }, () => {
  const verdict = verifyHrk(needed(item("csv-v2-synthetic"), "root"));
  assert.equal(verdict.outcome, "untrusted");
  assert.deepEqual(
    verdict.checks.filter((c) => !c.ok).map((c) => c.name),
    ["hrk-pinned"],
  );
});
