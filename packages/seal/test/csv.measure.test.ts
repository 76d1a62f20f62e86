import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { type CsvLaunch, csvLaunchDigest } from "../src/measure/csv.ts";
import { readOvmf } from "../src/measure/ovmf-sev.ts";
import { kernelHashes } from "../src/measure/snp-hashes.ts";

const FOLDER = join(import.meta.dirname, "../../../../shared/evidence/snp/launch-digest-upstream");
const skip = existsSync(FOLDER) ? false : `no evidence corpus at ${FOLDER}`;

interface Vector {
  readonly name: string;
  readonly expected_launch_digest: string | null;
}

function expected(name: string): string | null | undefined {
  const { vectors } = JSON.parse(readFileSync(join(FOLDER, "vectors.json"), "utf8")) as { vectors: Vector[] };
  return vectors.find((v) => v.name === name)?.expected_launch_digest;
}

const firmware = (name: string): Uint8Array => new Uint8Array(readFileSync(join(FOLDER, name)));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** QEMU's table of hashes, written out by hand. */
function table(kernel: Uint8Array, initrd: Uint8Array, cmdline: string): Uint8Array {
  const sha256 = (data: Uint8Array | string): Buffer => createHash("sha256").update(data).digest();
  const entry = (guid: string, digest: Buffer): Buffer =>
    Buffer.concat([Buffer.from(guid, "hex"), Buffer.from("3200", "hex"), digest]);
  return Buffer.concat([
    Buffer.from("06d63894224fc94cb479a793d411fd21a800", "hex"),
    entry("d82dd09720bd944caa78e7714d36ab2a", sha256(`${cmdline}\0`)),
    entry("31f7ba442f3ad74b9af141e29169781d", sha256(initrd)),
    entry("3794e74dd2ab7f42b835d5b172d2045b", sha256(kernel)),
    Buffer.alloc(8),
  ]);
}

const NONE = new Uint8Array();

test("a CSV digest is SM3 over the bytes whose SHA-256 is the published SEV digest", { skip }, () => {
  const data = firmware("ovmf_AmdSev_suffix.bin");
  const bytes = Buffer.concat([data, table(NONE, NONE, "console=ttyS0 loglevel=7")]);
  assert.equal(createHash("sha256").update(bytes).digest("hex"), expected("test_sev"));
  const launch: CsvLaunch = {
    firmware: readOvmf(data),
    kernel: kernelHashes(NONE, NONE, "console=ttyS0 loglevel=7"),
    policy: 1,
    vcpus: 1,
  };
  assert.equal(hex(csvLaunchDigest(launch)), createHash("sm3").update(bytes).digest("hex"));
});

test("without kernel hashes a CSV digest is SM3 of the firmware", { skip }, () => {
  const data = firmware("ovmf_OvmfX64_suffix.bin");
  assert.equal(
    createHash("sha256").update(data).digest("hex"),
    expected("test_sev_with_ovmfx64_without_kernel"),
  );
  const digest = csvLaunchDigest({ firmware: readOvmf(data), policy: 1, vcpus: 4 });
  assert.equal(hex(digest), createHash("sm3").update(data).digest("hex"));
});

test("CSV2 measures processors: their number and model change the digest, CSV's they do not", {
  skip,
}, () => {
  const image = readOvmf(firmware("ovmf_AmdSev_suffix.bin"));
  const digest = (policy: number, vcpus: number, cpuSignature?: number): string =>
    hex(
      csvLaunchDigest({
        firmware: image,
        policy,
        vcpus,
        ...(cpuSignature === undefined ? {} : { cpuSignature }),
      }),
    );
  assert.equal(digest(1, 1), digest(1, 2));
  assert.notEqual(digest(5, 1), digest(1, 1));
  assert.notEqual(digest(5, 1), digest(5, 2));
  assert.notEqual(digest(5, 1), digest(5, 1, 0x900f41));
  assert.equal(digest(5, 1), digest(5, 1, 0x900f01));
});

test("kernel, initrd and command line each change the digest", { skip }, () => {
  const image = readOvmf(firmware("ovmf_AmdSev_suffix.bin"));
  const other = Uint8Array.of(1);
  const seen = new Set(
    [
      kernelHashes(NONE, NONE, ""),
      kernelHashes(other, NONE, ""),
      kernelHashes(NONE, other, ""),
      kernelHashes(NONE, NONE, "a"),
    ].map((kernel) => hex(csvLaunchDigest({ firmware: image, kernel, policy: 5, vcpus: 1 }))),
  );
  assert.equal(seen.size, 4);
});

test("CSV3 and firmware that checks no hashes are refused by name", { skip }, () => {
  const image = readOvmf(firmware("ovmf_AmdSev_suffix.bin"));
  assert.throws(() => csvLaunchDigest({ firmware: image, policy: 0x45, vcpus: 1 }), {
    code: "PLATFORM_UNSUPPORTED",
  });
  const plain = readOvmf(firmware("ovmf_OvmfX64_suffix.bin"));
  const kernel = kernelHashes(NONE, NONE, "");
  assert.throws(() => csvLaunchDigest({ firmware: plain, kernel, policy: 1, vcpus: 1 }), {
    code: "PLATFORM_UNSUPPORTED",
  });
});
