import assert from "node:assert/strict";
import { test } from "node:test";
import { fuzzLayers } from "./fuzz.ts";

test("random and altered layers are refused by name or flatten to something stable", async (t) => {
  const seed = Number(process.env["SHELTER_FUZZ_SEED"] ?? Date.now() % 2 ** 31);
  t.diagnostic(`seed ${seed}`);
  const { tried, accepted } = await fuzzLayers(seed, (count) => count >= 200);
  assert.ok(accepted > tried / 20, `only ${accepted} of ${tried} images got through: too wild to find much`);
  assert.ok(accepted < tried, "nothing was refused");
});
