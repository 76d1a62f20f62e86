import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";

const COMMAND = join(import.meta.dirname, "../../../shelter");
const CORPUS = join(import.meta.dirname, "../../../../shared/evidence");
const skip = existsSync(join(CORPUS, "index.json")) ? false : `no evidence corpus at ${CORPUS}`;

interface Item {
  readonly id: string;
  readonly tee: string;
  readonly kind: string;
  readonly files: Readonly<Record<string, { readonly file: string }>>;
  readonly verify_at?: string;
  readonly expected: { readonly verdict: string };
}

describe("shelter attest", { skip }, () => {
  let directory: string;
  let items: readonly Item[];
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "shelter-attest-"));
    items = (JSON.parse(readFileSync(join(CORPUS, "index.json"), "utf8")) as { items: Item[] }).items;
  });
  after(() => rmSync(directory, { recursive: true }));

  function attest(...args: string[]): { status: number | null; stdout: string; stderr: string } {
    const env = { ...process.env, SHELTER_STATE: directory, NO_COLOR: "1" };
    return spawnSync(COMMAND, ["attest", ...args], { env, encoding: "utf8" });
  }

  /** The files of an item as arguments, by their roles. */
  function evidence(item: Item): string[] {
    return Object.entries(item.files)
      .filter(([role]) => role !== "root")
      .flatMap(([role, { file }]) => ["--evidence", `${role}=${join(CORPUS, file)}`]);
  }

  function first(tee: string, verdict: string, having: string): Item {
    const found = items.find(
      (i) =>
        i.tee === tee &&
        i.kind === "evidence" &&
        i.expected.verdict === verdict &&
        i.files[having] !== undefined,
    );
    assert.ok(found, `the corpus has no ${verdict} ${tee}`);
    return found;
  }

  test("accepts genuine SNP evidence and refuses it with one bit changed", () => {
    const item = first("snp", "valid", "vek");
    const args = ["--platform", "snp", "--at", item.verify_at ?? ""];
    const root = item.files["root"];
    if (root !== undefined) args.push("--root", join(CORPUS, root.file));
    const good = attest(...args, ...evidence(item));
    assert.equal(good.status, 0, good.stdout + good.stderr);
    assert.match(good.stdout, /ok {3}report-signature/);
    const report = readFileSync(join(CORPUS, item.files["report"]?.file ?? ""));
    report[0x90] = (report[0x90] ?? 0) ^ 1;
    const altered = join(directory, "altered.bin");
    writeFileSync(altered, report);
    const changed = evidence(item).map((a) => (a.startsWith("report=") ? `report=${altered}` : a));
    const bad = attest(...args, ...changed);
    assert.equal(bad.status, 76, bad.stdout);
    assert.match(bad.stdout, /FAIL report-signature/);
  });

  test("names the collateral that is missing and exits with 69", () => {
    const item = first("snp", "valid", "vek");
    const result = attest("--evidence", join(CORPUS, item.files["report"]?.file ?? ""), "--json");
    assert.equal(result.status, 69);
    const verdict = JSON.parse(result.stdout) as { outcome: string; missing: string[] };
    assert.equal(verdict.outcome, "incomplete");
    assert.match(verdict.missing.join(), /vcek/);
  });

  test("calls genuine evidence expired behind its collateral's time", () => {
    const item = first("tdx", "valid", "tcb_info");
    const args = ["--platform", "tdx", "--at", "2049-01-01T00:00:00Z", ...evidence(item)];
    const root = item.files["root"];
    if (root !== undefined) args.push("--root", join(CORPUS, root.file));
    assert.equal(attest(...args).status, 78);
  });

  test("prints every platform's evidence with the standard's names", () => {
    for (const [tee, role, word] of [
      ["snp", "report", /MEASUREMENT: [0-9a-f]{96}/],
      ["tdx", "quote", /MRTD: [0-9a-f]{96}/],
      ["nitro", "document", /module_id/],
      ["cca", "token", /challenge|RIM|realm/i],
    ] as const) {
      const item = first(tee, "valid", role);
      const result = attest("--print", "--evidence", join(CORPUS, item.files[role]?.file ?? ""));
      assert.equal(result.status, 0, result.stderr);
      assert.match(result.stdout, word, tee);
    }
  });

  test("says what is wrong with what it cannot take", () => {
    const file = join(directory, "noise.bin");
    writeFileSync(file, Buffer.alloc(100, 0xa5));
    const noise = attest("--evidence", file);
    assert.notEqual(noise.status, 0);
    assert.match(noise.stderr, /noise\.bin: no evidence/);
    assert.equal(attest("--evidence", join(directory, "absent")).status, 2);
    assert.equal(attest("--evidence", file, "--at", "yesterday").status, 2);
    assert.equal(attest("--evidence", file, "--platform", "abacus").status, 2);
  });
});
