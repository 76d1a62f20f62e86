import { equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { platformInfo } from "../src/measure/platform-info.ts";

const MiB = 2 ** 20;
const TCG = { physBits: 40, vendor: "AuthenticAMD" } as const;

// Read from the memory of real boots (QEMU 7.2, OVMF 2022.11, QMP pmemsave) at OVMF's mPlatformInfoHob, behind its header.
const RECORDED: readonly [number, number, string][] = [
  [
    1,
    512,
    "c029000000000000000000000000000100000000000000001000000028000000800000000000000000000000000000000000e00000000000000020000000000000c00000003c006000000000000000a000000000000000000000000000000100000001000000400000000080f71f00800800",
  ],
  [
    1,
    1024,
    "c029000000000000000000000000000100000000000000001000000028000000800000000000000000000000000000000000e00000000000000020000000000000c00000003c006000000000000000a000000000000000000000000000000100000001000000400000000080f73f00800800",
  ],
  [
    2,
    512,
    "c029000000000000000000000000000100000000000000001000000028000000800000000000000000000000000000000000e00000000000000020000000000000c00000003c006000000000000000a000000000000000000000000000000200000002000000400000000000f71f00000900",
  ],
];

for (const [cpus, memory, hex] of RECORDED) {
  test(`knows what OVMF knows of ${cpus} CPUs and ${memory} MiB`, () => {
    const info = platformInfo({ cpus, memory: memory * MiB }, TCG);
    equal(Buffer.from(info.subarray(24)).toString("hex"), hex);
    equal(Buffer.from(info.subarray(0, 24)).toString("hex"), "00".repeat(24));
  });
}

test("an address width the firmware does not believe gives another structure, as little memory above 4 GiB does not", () => {
  const at = (physBits: number, vendor: "AuthenticAMD" | "GenuineIntel", memory: number): string =>
    Buffer.from(platformInfo({ cpus: 1, memory: memory * MiB }, { physBits, vendor })).toString(
      "hex",
      24,
      90,
    );
  equal(at(40, "AuthenticAMD", 8192) === at(40, "GenuineIntel", 8192), false);
  equal(at(46, "AuthenticAMD", 8192), at(46, "GenuineIntel", 8192));
  equal(at(52, "GenuineIntel", 8192), at(47, "GenuineIntel", 8192));
  equal(at(40, "AuthenticAMD", 2816), at(40, "AuthenticAMD", 8192));
});

test("memory QEMU may move elsewhere is refused by name", () => {
  throws(() => platformInfo({ cpus: 1, memory: 2 ** 40 }, TCG), { code: "SHAPE_UNSUPPORTED" });
});
