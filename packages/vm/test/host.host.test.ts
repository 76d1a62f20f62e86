import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { choosePlatform, findProgram, probeHost } from "../src/index.ts";
import { kvmPayload, PAYLOAD_STATUS } from "../src/kvm-payload.ts";

const base = mkdtempSync(join(tmpdir(), "shelter-host-"));
after(() => rmSync(base, { recursive: true, force: true }));
const qemu = findProgram("qemu-system-x86_64");

describe("this host", { skip: qemu === null ? "needs qemu-system-x86_64" : false }, () => {
  test("the KVM payload runs to its end on a processor that does everything, and says so", () => {
    const image = join(base, "payload");
    writeFileSync(image, kvmPayload());
    const run = (cpu: string): number | null =>
      spawnSync(
        qemu as string,
        [
          ...[
            "-machine",
            "q35,accel=tcg",
            "-cpu",
            cpu,
            "-m",
            "32",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
          ],
          ...["-bios", image, "-device", "isa-debug-exit,iobase=0xf4,iosize=4"],
        ],
        { timeout: 20_000 },
      ).status;
    assert.equal(run("max"), PAYLOAD_STATUS);
    assert.notEqual(run("qemu32"), PAYLOAD_STATUS, "a processor without long mode must fail");
  });

  test("is probed once, and kept until the next boot", async () => {
    const first = await probeHost({ state: base, fresh: true });
    assert.deepEqual(await probeHost({ state: base }), first);
    for (const part of first.parts) assert.equal(part.present, part.remedy === undefined, part.name);
    assert.equal(first.accelerator === "kvm", first.parts.find((p) => p.name === "kvm")?.present);
    const choice = choosePlatform("none", first);
    assert.match(choice.notices[0] ?? "", /^platform none: .* must be trusted/);
  });

  test("names what is missing for a platform it does not have", async () => {
    const host = await probeHost({ state: base });
    for (const report of host.platforms.filter((p) => !p.available)) {
      assert.throws(
        () => choosePlatform(report.platform, host),
        (error: Error & { code?: string; hint?: string }) => {
          assert.equal(error.code, "PLATFORM_UNAVAILABLE");
          for (const name of report.missing)
            assert.ok(error.message.includes(name) && error.hint?.includes(`${name}: `));
          return true;
        },
      );
    }
  });
});

test("without QEMU nothing runs, and the report says how to get it", async () => {
  const host = await probeHost({ state: base, env: { PATH: "/nonexistent" } });
  const part = host.parts.find((p) => p.name === "qemu");
  // findProgram also looks into the system's sbin directories, where no distribution puts QEMU.
  assert.equal(part?.present, false);
  assert.equal(part?.remedy, "apt-get install qemu-system-x86");
  assert.ok(host.platforms.every((p) => !p.available));
  assert.throws(() => choosePlatform("auto", host), { code: "PLATFORM_UNAVAILABLE" });
});
