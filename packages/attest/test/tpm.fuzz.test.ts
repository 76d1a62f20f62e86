import assert from "node:assert/strict";
import { test } from "node:test";
import { fuzz, TARGETS } from "./tpm-fuzz.ts";

for (const name of Object.keys(TARGETS)) {
  const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
  test(`150 mutants for the ${name} reader end in a verdict or a named error (FUZZ_SEED=${seed})`, () => {
    assert.equal(fuzz(name, seed, (tried) => tried >= 150).tried, 150);
  });
}
