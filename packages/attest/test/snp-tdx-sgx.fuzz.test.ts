import { describe, it } from "node:test";
import { corpusAbsent } from "./snp-corpus.ts";
import { fuzzTarget, sgxTarget, snpTarget, tdxTarget } from "./snp-fuzz.ts";

const CASES = 300;

describe("snp, tdx, sgx: changed evidence and collateral", { skip: corpusAbsent ?? false }, () => {
  for (const [name, target] of [
    ["snp", snpTarget],
    ["tdx", tdxTarget],
    ["sgx", sgxTarget],
  ] as const) {
    const seed = Date.now() % 2 ** 31;
    it(`${name}: a verdict for each of ${CASES} changes (seed ${seed})`, () => {
      fuzzTarget(target(), seed, (tried) => tried >= CASES);
    });
  }
});
