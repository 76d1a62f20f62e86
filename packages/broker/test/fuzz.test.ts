import assert from "node:assert/strict";
import { test } from "node:test";
import { type PlatformVerifier, tpmPlatform } from "@shelter/broker";
import { freshSeed, fuzzRequests } from "./support/fuzz.ts";

test("altered messages are refused by name, and never accepted with what decides altered", async (t) => {
  const seed = Number(process.env["SHELTER_FUZZ_SEED"] ?? freshSeed());
  t.diagnostic(`seed ${seed} (SHELTER_FUZZ_SEED repeats it)`);
  const result = await fuzzRequests(seed, (tried) => tried >= 1500);
  t.diagnostic(JSON.stringify(result));
  // A fuzzer whose every message dies in the JSON parser tests nothing.
  assert.ok(result.refused > 40, JSON.stringify(result));
  assert.ok(result.malformed > 100, JSON.stringify(result));
});

test("a verifier that believes everything would be caught", async () => {
  const real = tpmPlatform();
  const gullible: PlatformVerifier = {
    ...real,
    verify: async (input) => {
      const appraisal = await real.verify(input);
      return { ...appraisal, verdict: { ...appraisal.verdict, outcome: "accepted" } };
    },
  };
  await assert.rejects(
    fuzzRequests(1, (tried) => tried >= 1500, gullible),
    (error: Error) => /accepted altered evidence/.test(String(error.cause)),
  );
});
