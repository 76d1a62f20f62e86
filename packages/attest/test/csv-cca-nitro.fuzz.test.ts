import assert from "node:assert/strict";
import { test } from "node:test";
import { skip } from "./csv-cca-nitro-corpus.ts";
import { fuzz, TARGETS } from "./csv-cca-nitro-fuzz.ts";

for (const name of Object.keys(TARGETS)) {
  const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
  test(`120 mutants of ${name} end in a verdict (FUZZ_SEED=${seed})`, { skip }, () => {
    assert.equal(fuzz(name, seed, (tried) => tried >= 120).tried, 120);
  });
}
