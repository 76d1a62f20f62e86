import { ok } from "node:assert/strict";
import { test } from "node:test";
import { fuzz, TARGETS } from "./support/fuzz.ts";
import { Random } from "./support/random.ts";

for (const [name, target] of Object.entries(TARGETS)) {
  test(`${name}: a right document is read, random edits of it end in a value or a named error`, () => {
    target.read(target.start());
    const random = new Random();
    const { tried, accepted } = fuzz(name, random, (n) => n >= 1500);
    ok(accepted < tried, `seed ${random.seed}: every mutant was accepted`);
  });
}
