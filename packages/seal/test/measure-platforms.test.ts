import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { fromHex, toHex } from "@shelter/base";
import { encodeCbor } from "../src/measure/cbor.ts";
import { measure, referenceValues } from "../src/measure/measure.ts";
import { readOvmf } from "../src/measure/ovmf-sev.ts";
import { rvpsMessage } from "../src/measure/rvps.ts";
import { sevLaunchDigest, snpLaunchDigest } from "../src/measure/snp.ts";
import { kernelHashes } from "../src/measure/snp-hashes.ts";
import { mrTd } from "../src/measure/tdx.ts";
import { readTdxFirmware } from "../src/measure/tdx-firmware.ts";
import { leastKernel, measurable } from "./support/image.ts";
import { scratch } from "./support/scratch.ts";

const SNP = join(import.meta.dirname, "../../../../shared/evidence/snp/launch-digest-upstream");
const AMD_SEV = join(SNP, "ovmf_AmdSev_suffix.bin");
const PLAIN = join(SNP, "ovmf_OvmfX64_suffix.bin");
const skip = existsSync(AMD_SEV) ? false : `no firmware at ${AMD_SEV}`;
const TDVF = "/usr/share/ovmf/OVMF.fd";
const shape = { cpus: 2, memory: 2 ** 28 };

test("every launch of snp is a digest of its own, over the image's own files", { skip }, async (t) => {
  const directory = scratch(t);
  const record = measurable(directory);
  const request = { imageDirectory: directory, platform: "snp", firmware: AMD_SEV, ...shape } as const;
  const all = await measure(request);
  ok(all.platform === "snp");
  const digests = all.launches.map((l) => l.measurement);
  equal(new Set(digests).size, digests.length);
  deepEqual([...new Set(all.launches.map((l) => l.kernelHashes))], [true, false]);
  const kernel = kernelHashes(leastKernel(), Buffer.from("initrd"), record.cmdline);
  const ovmf = readOvmf(new Uint8Array(readFileSync(AMD_SEV)));
  const launch = {
    firmware: ovmf,
    vcpus: 2,
    vmm: "qemu",
    cpuSignature: 0xa00f11,
    guestFeatures: 1n,
  } as const;
  const milan = all.launches.filter((l) => l.cpuModels.includes("EPYC-Milan"));
  deepEqual(
    milan.map((l) => l.measurement),
    [toHex(snpLaunchDigest({ ...launch, kernel })), toHex(snpLaunchDigest(launch))],
  );
  const one = await measure({ ...request, cpuModels: ["EPYC-Milan"] });
  ok(one.platform === "snp");
  deepEqual(
    one.launches.map((l) => l.measurement),
    milan.map((l) => l.measurement),
  );
  await rejects(measure({ ...request, cpuModels: ["max"] }), { code: "SHAPE_UNSUPPORTED" });
});

test("csv is predicted with and without its processors", { skip }, async (t) => {
  const directory = scratch(t);
  const record = measurable(directory);
  const all = await measure({ imageDirectory: directory, platform: "csv", firmware: AMD_SEV, ...shape });
  ok(all.platform === "csv");
  deepEqual(
    all.launches.map((l) => [l.generation, l.kernelHashes, l.cpuModels.length]),
    [
      ["CSV", true, 0],
      ["CSV2", true, 1],
      ["CSV", false, 0],
      ["CSV2", false, 1],
    ],
  );
  const data = new Uint8Array(readFileSync(AMD_SEV));
  const kernel = kernelHashes(leastKernel(), Buffer.from("initrd"), record.cmdline);
  const launch = {
    firmware: readOvmf(data),
    vcpus: 2,
    vmm: "qemu",
    cpuSignature: 0,
    guestFeatures: 0n,
  } as const;
  equal(all.launches[0]?.measurement, toHex(sevLaunchDigest({ ...launch, kernel }, "sev", "sm3")));
  equal(all.launches[2]?.measurement, createHash("sm3").update(data).digest("hex"));
});

test("reference values hold no launch that is the same for every image", { skip }, async (t) => {
  const directory = scratch(t);
  measurable(directory);
  const request = { imageDirectory: directory, platform: "snp", firmware: AMD_SEV } as const;
  const reference = await referenceValues("demo", request, [shape]);
  const all = await measure({ ...request, ...shape });
  ok(all.platform === "snp");
  const expected = all.launches.filter((l) => l.kernelHashes).map((l) => l.measurement);
  deepEqual(
    reference.values.map((v) => (v.platform === "snp" ? v.measurement : "")),
    expected,
  );
  const message = rvpsMessage(reference);
  deepEqual([message.version, message.type], ["0.1.0", "sample"]);
  deepEqual(JSON.parse(Buffer.from(message.payload, "base64").toString("utf8")), {
    snp_launch_measurement: expected,
  });
  const plain = { ...request, firmware: PLAIN };
  const bare = await measure({ ...plain, ...shape });
  ok(bare.platform === "snp" && bare.launches.every((l) => !l.kernelHashes));
  await rejects(referenceValues("demo", plain, [shape]), {
    code: "PLATFORM_UNSUPPORTED",
    message: /no page for kernel hashes/,
  });
});

test("tdx is predicted without RTMR0 until the machine's tables are given", {
  skip: existsSync(TDVF) ? false : `no ${TDVF}`,
}, async (t) => {
  const directory = scratch(t);
  measurable(directory);
  const request = { imageDirectory: directory, platform: "tdx", firmware: TDVF, ...shape } as const;
  const without = await measure(request);
  ok(without.platform === "tdx");
  deepEqual(Object.keys(without.rtmrs), ["1", "2", "3"]);
  const firmware = readTdxFirmware(new Uint8Array(readFileSync(TDVF)));
  equal(without.mrtd.pageByPage, toHex(mrTd(firmware, "page-by-page")));
  const acpi = { loader: Buffer.from("l"), rsdp: Buffer.from("r"), tables: Buffer.from("t") };
  const full = await measure({ ...request, acpi });
  ok(full.platform === "tdx");
  deepEqual(Object.keys(full.rtmrs), ["0", "1", "2", "3"]);
  const reference = await referenceValues("demo", request, [shape]);
  const payload = JSON.parse(Buffer.from(rvpsMessage(reference).payload, "base64").toString("utf8"));
  const { pageByPage, sectionBySection } = without.mrtd;
  deepEqual(payload, {
    mr_td: [pageByPage, sectionBySection],
    rtmr_1: [without.rtmrs["1"]],
    rtmr_2: [without.rtmrs["2"]],
  });
});

test("firmware that is not named or not there is a named error", async (t) => {
  const directory = scratch(t);
  measurable(directory);
  for (const platform of ["snp", "tdx", "csv"] as const) {
    const request = { imageDirectory: directory, platform, ...shape };
    await rejects(measure(request), {
      code: "FIRMWARE_MISSING",
      message: `a prediction for ${platform} needs the firmware's file`,
    });
    await rejects(measure({ ...request, firmware: "/nowhere/OVMF.fd" }), {
      code: "FIRMWARE_MISSING",
      message: "there is no firmware /nowhere/OVMF.fd",
    });
    await rejects(measure({ ...request, firmware: directory }), {
      code: "FIRMWARE_MISSING",
      message: `${directory} is not a file`,
    });
  }
});

test("CBOR comes out as RFC 8949 writes it, maps in order", () => {
  const cases = [
    [encodeCbor(23), "17"],
    [encodeCbor(24), "1818"],
    [encodeCbor(1000), "1903e8"],
    [encodeCbor(1000000), "1a000f4240"],
    [encodeCbor("IETF"), "6449455446"],
    [encodeCbor(fromHex("01020304")), "4401020304"],
    [encodeCbor([1, [2, 3]]), "8201820203"],
    [
      encodeCbor(
        new Map<number | string, number>([
          ["z", 1],
          [100, 2],
          [10, 3],
        ]),
      ),
      "a30a03186402617a01",
    ],
  ] as const;
  for (const [bytes, expected] of cases) equal(toHex(bytes), expected);
});
