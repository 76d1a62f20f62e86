import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { differingFields } from "../src/conformance/compare.ts";
import { conformance } from "../src/conformance.ts";

const FIXTURE = join(import.meta.dirname, "../../../packages/attest/test/fixtures/swtpm.json");
const CORPUS = join(import.meta.dirname, "../../../../shared/evidence");

interface Fixture {
  readonly nonce: string;
  readonly quotes: readonly { readonly name: string; ak: string; message: string; signature: string }[];
}

/** A corpus of one TPM quote, with what is asked to be wrong with it. */
function corpus(change: (item: Record<string, unknown>, files: Record<string, Buffer>) => void): string {
  const { nonce, quotes } = JSON.parse(readFileSync(FIXTURE, "utf8")) as Fixture;
  const [quote] = quotes;
  assert.ok(quote);
  const files: Record<string, Buffer> = {
    quote: Buffer.from(quote.message, "base64"),
    signature: Buffer.from(quote.signature, "base64"),
    ak_pub: Buffer.from(quote.ak, "base64"),
  };
  const item: Record<string, unknown> = {
    id: "quote",
    tee: "tpm",
    kind: "evidence",
    expected: { verdict: "valid", fields: { nonce, sig_alg: "rsassa" } },
    inputs: { expected_nonce: nonce },
  };
  change(item, files);
  const directory = mkdtempSync(join(tmpdir(), "corpus-"));
  item["files"] = Object.fromEntries(
    Object.entries(files).map(([role, content]) => {
      writeFileSync(join(directory, role), content);
      return [role, { file: role, sha256: createHash("sha256").update(content).digest("hex") }];
    }),
  );
  writeFileSync(join(directory, "index.json"), JSON.stringify({ items: [item] }));
  return directory;
}

function run(directory: string, ...flags: string[]): { status: number; lines: string[] } {
  const lines: string[] = [];
  try {
    const status = conformance(["evidence", directory, ...flags], (line) => lines.push(line));
    return { status, lines };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

test("agrees on a genuine item and exits with 0", () => {
  assert.deepEqual(run(corpus(() => undefined)), {
    status: 0,
    lines: ["quote valid agrees", "1 agree, 0 differ"],
  });
});

test("agrees that an altered item is invalid, and says why", () => {
  const altered = corpus((item, files) => {
    item["expected"] = { verdict: "invalid" };
    const { signature } = files;
    if (signature) signature[100] = (signature[100] ?? 0) ^ 1;
  });
  assert.deepEqual(run(altered).lines, ["quote invalid (quote-signature) agrees", "1 agree, 0 differ"]);
});

test("differs, with exit status 1, on another verdict, another field and a field it does not show", () => {
  const verdict = run(corpus((item) => (item["expected"] = { verdict: "policy" })));
  assert.equal(verdict.status, 1);
  assert.deepEqual(verdict.lines, ["quote valid DIFFERS: expected policy", "0 agree, 1 differ"]);
  const field = run(corpus((item) => (item["expected"] = { verdict: "valid", fields: { reset_count: 77 } })));
  assert.match(field.lines[0] ?? "", /^quote valid DIFFERS: field reset_count \(expected 77, have \d+\)$/);
  const unknown = run(corpus((item) => (item["expected"] = { verdict: "valid", fields: { colour: "red" } })));
  assert.equal(unknown.status, 1);
});

test("writes one JSON object a line when asked", () => {
  const { lines } = run(
    corpus(() => undefined),
    "--json",
  );
  assert.deepEqual(
    lines.map((line) => JSON.parse(line) as unknown),
    [
      { id: "quote", verdict: "valid", expected: "valid", agrees: true, reasons: [], differences: [] },
      { agree: 1, differ: 0 },
    ],
  );
});

test("judges nothing that is not what the index names, and says so", () => {
  const directory = corpus((item) => (item["expected"] = { verdict: "invalid" }));
  writeFileSync(join(directory, "quote"), "other");
  assert.deepEqual(run(directory).lines, [
    "quote invalid DIFFERS: not judged: quote: quote is not the file the index names",
    "0 agree, 1 differ",
  ]);
  const escaping = corpus(() => undefined);
  const index = join(escaping, "index.json");
  writeFileSync(index, readFileSync(index, "utf8").replace('"file":"quote"', '"file":"../quote"'));
  assert.match(
    run(escaping).lines[0] ?? "",
    /DIFFERS: not judged: index\.json: quote: \.\.\/quote leaves the folder$/,
  );
  const kind = run(corpus((item) => (item["kind"] = "poem")));
  assert.match(kind.lines[0] ?? "", /DIFFERS: not judged: quote: kind poem/);
  const broken = run(corpus((item) => delete item["tee"]));
  assert.equal(
    broken.lines[0],
    "items[0] invalid DIFFERS: not judged: index.json: items[0].tee is not a string",
  );
  const lines: string[] = [];
  assert.equal(
    conformance(["evidence"], (line) => lines.push(line)),
    2,
  );
  assert.match(lines[0] ?? "", /^usage: /);
  assert.throws(() => conformance(["evidence", "/nowhere"], () => undefined), { code: "CORPUS_FILE" });
});

test("compares expected values as parts of the claims, lists wholly, hex in either case", () => {
  const claims = { a: { b: "ABcd", c: 1 }, list: [1, 2], none: undefined };
  assert.deepEqual(differingFields({ a: { b: "abCD" }, list: [1, 2], none: null }, claims), []);
  assert.deepEqual(differingFields({ list: [1] }, claims), ["list"]);
  assert.deepEqual(differingFields({ a: { c: 2 } }, claims), ["a.c (expected 2, have 1)"]);
  assert.deepEqual(differingFields({ gone: { x: 1 } }, claims), ["gone"]);
});

test("agrees with every item of the evidence corpus", {
  skip: existsSync(join(CORPUS, "index.json")) ? false : `no evidence corpus at ${CORPUS}`,
}, () => {
  const lines: string[] = [];
  const status = conformance(["evidence", CORPUS], (line) => lines.push(line));
  assert.deepEqual(
    lines.filter((line) => line.includes("DIFFERS")),
    [],
  );
  assert.equal(status, 0);
  assert.match(lines.at(-1) ?? "", /^1\d\d agree, 0 differ$/);
});
