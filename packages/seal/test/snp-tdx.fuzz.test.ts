import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { ShelterError } from "@shelter/base";
import { readOvmf } from "../src/measure/ovmf-sev.ts";
import { snpLaunchDigest } from "../src/measure/snp.ts";
import { mrTd } from "../src/measure/tdx.ts";
import { readTdxFirmware } from "../src/measure/tdx-firmware.ts";
import { tdHob } from "../src/measure/tdx-hob.ts";
import { Random } from "./support/random.ts";

const FOLDER = join(import.meta.dirname, "../../../../shared/evidence");
const SAMPLES = [
  "snp/launch-digest-upstream/ovmf_AmdSev_suffix.bin",
  "snp/launch-digest-upstream/ovmf_OvmfX64_suffix.bin",
  "tdx/mrtd-vectors/tdvf_synthetic_0.bin",
].map((name) => join(FOLDER, name));
const skip = existsSync(FOLDER) ? false : `no evidence corpus at ${FOLDER}`;
const CASES = 250;

describe("firmware with changed tables", { skip }, () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);

  it(`is measured or refused by name (seed ${seed})`, () => {
    const random = new Random(seed);
    let measured = 0;
    for (let n = 0; n < CASES; n++) {
      const bytes = Buffer.from(readFileSync(SAMPLES[n % SAMPLES.length] ?? ""));
      // The tables lie in the last 4 KiB.
      for (let i = random.below(4); i >= 0; i--) {
        const at = bytes.length - 1 - random.below(4096);
        bytes[at] =
          random.below(4) === 0 ? [0, 1, 0x7f, 0xff][random.below(4)]! : bytes[at]! ^ (1 << random.below(8));
      }
      for (const work of [
        () =>
          snpLaunchDigest({
            firmware: readOvmf(bytes),
            vcpus: 2,
            vmm: "qemu",
            cpuSignature: 0,
            guestFeatures: 1n,
          }),
        () => mrTd(readTdxFirmware(bytes), "page-by-page"),
        () => tdHob(readTdxFirmware(bytes), 2 ** 32),
      ]) {
        try {
          assert.ok(work().length > 0);
          measured++;
        } catch (error) {
          if (!(error instanceof ShelterError) || error.kind === "bug") throw error;
        }
      }
    }
    assert.ok(measured > 0);
  });
});
