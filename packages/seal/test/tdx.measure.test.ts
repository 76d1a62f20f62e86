import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { fromHex, toHex } from "@shelter/base";
import { explainTdx, mrTd, type TdxBoot, tdxEvents, tdxRegisters } from "../src/measure/tdx.ts";
import { readTdxFirmware, TDVF_SECTION, type TdxFirmware } from "../src/measure/tdx-firmware.ts";
import { tdHob } from "../src/measure/tdx-hob.ts";
import { predictTdx } from "../src/measure/tdx-image.ts";
import { leastKernel } from "./support/image.ts";

const FOLDER = join(import.meta.dirname, "../../../../shared/evidence/tdx");
const skip = existsSync(FOLDER) ? false : `no evidence corpus at ${FOLDER}`;

function read(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path));
}

function sha384(...parts: readonly Uint8Array[]): string {
  return createHash("sha384").update(Buffer.concat(parts)).digest("hex");
}

interface LogEntry {
  readonly imr: number;
  readonly digest: string;
}

/** Events of a real machine of 64 GiB, booted by QEMU from Debian-like OVMF with a direct kernel. */
function realLog(): readonly LogEntry[] {
  return JSON.parse(readFileSync(join(FOLDER, "tdx-v4-90c06f-dstack-eventlog/event_log.json"), "utf8"));
}

const REAL_MEMORY = 64 * 2 ** 30;

/** Sections of the OVMF of that time: the memory map is what the hand-off block depends on. */
const REAL_FIRMWARE: TdxFirmware = {
  data: new Uint8Array(0x84000),
  sections: [
    {
      dataOffset: 0,
      rawSize: 0x84000,
      gpa: 0xffc00000n,
      memorySize: 0x84000n,
      type: TDVF_SECTION.cfv,
      attributes: 0,
    },
    {
      dataOffset: 0,
      rawSize: 0,
      gpa: 0x810000n,
      memorySize: 0x10000n,
      type: TDVF_SECTION.tempMem,
      attributes: 0,
    },
    {
      dataOffset: 0,
      rawSize: 0,
      gpa: 0x80b000n,
      memorySize: 0x2000n,
      type: TDVF_SECTION.tempMem,
      attributes: 0,
    },
    {
      dataOffset: 0,
      rawSize: 0,
      gpa: 0x809000n,
      memorySize: 0x2000n,
      type: TDVF_SECTION.tdHob,
      attributes: 0,
    },
    {
      dataOffset: 0,
      rawSize: 0,
      gpa: 0x800000n,
      memorySize: 0x6000n,
      type: TDVF_SECTION.tempMem,
      attributes: 0,
    },
  ],
};

function bootOf(change: Partial<TdxBoot> = {}): TdxBoot {
  return {
    firmware: REAL_FIRMWARE,
    memory: REAL_MEMORY,
    kernel: leastKernel(),
    initrd: Buffer.from("initrd"),
    cmdline: "quiet",
    ...change,
  };
}

describe("mrtd vectors", { skip }, () => {
  const file = join(FOLDER, "mrtd-vectors/vectors.json");
  const { vectors } = skip ? { vectors: [] } : JSON.parse(readFileSync(file, "utf8"));
  for (const vector of vectors) {
    it(vector.name, (t) => {
      const external = /^EXTERNAL:(\S+)/.exec(vector.firmware)?.[1];
      const path = external ?? join(FOLDER, "mrtd-vectors", vector.firmware);
      if (!existsSync(path)) return t.skip(`no ${path}`);
      const data = read(path);
      const digest = createHash("sha256").update(data).digest("hex");
      if (vector.sha256 !== undefined && digest !== vector.sha256) return t.skip(`another ${path}`);
      const firmware = readTdxFirmware(data);
      for (const [i, section] of (vector.sections ?? []).entries()) {
        assert.equal(firmware.sections[i]?.dataOffset, section.data_offset);
        assert.equal(firmware.sections[i]?.memorySize, BigInt(section.mem_size));
        assert.equal(firmware.sections[i]?.attributes, section.attributes);
      }
      const orders = [
        ["page-by-page", vector.expected_mrtd_page_add_then_extend_per_page ?? vector.expected_mrtd],
        ["section-by-section", vector.expected_mrtd_all_page_adds_then_extends_per_section],
      ] as const;
      for (const [order, expected] of orders) {
        if (expected !== undefined) assert.equal(toHex(mrTd(firmware, order)), expected, order);
      }
    });
  }
});

describe("rtmr events against a real machine's log", { skip }, () => {
  it("writes the hand-off block QEMU wrote", () => {
    const measured = realLog().filter((e) => e.imr === 0)[0]?.digest;
    assert.equal(sha384(tdHob(REAL_FIRMWARE, REAL_MEMORY)), measured);
    assert.notEqual(sha384(tdHob(REAL_FIRMWARE, REAL_MEMORY / 2)), measured);
  });

  it("predicts every event but those of other files", () => {
    const log = realLog().map((e) => ({ rtmr: e.imr, digest: fromHex(e.digest) }));
    const differences = explainTdx(
      tdxEvents(bootOf()),
      log.filter((e) => e.rtmr < 3),
    );
    assert.deepEqual(
      differences.map((d) => d.description),
      [
        "variable store of the firmware",
        "kernel, with the initrd's place and size in its header",
        "command line: quiet initrd=initrd",
        "initrd",
      ],
    );
  });

  it("knows Debian's variable store in it", (t) => {
    const path = "/usr/share/OVMF/OVMF_VARS_4M.fd";
    if (!existsSync(path)) return t.skip(`no ${path}`);
    const measured = realLog().filter((e) => e.imr === 0)[1]?.digest;
    const boot = bootOf({ firmware: { ...REAL_FIRMWARE, data: read(path) } });
    const event = tdxEvents(boot).find((e) => e.type === "EV_EFI_PLATFORM_FIRMWARE_BLOB2");
    assert.equal(event?.digest, measured);
  });
});

describe("rtmr prediction", () => {
  const log = (boot: TdxBoot): { rtmr: number; digest: Uint8Array }[] =>
    tdxEvents(boot).map((e) => ({ rtmr: e.rtmr, digest: fromHex(e.digest) }));
  const acpi = { loader: Buffer.of(1), rsdp: Buffer.of(2), tables: Buffer.of(3) };

  it("leaves RTMR0 out without ACPI tables, and replays the rest", () => {
    const without = tdxRegisters(tdxEvents(bootOf()));
    assert.equal(without.rtmr0, undefined);
    const zero = new Uint8Array(48);
    const [first, second] = tdxEvents(bootOf()).filter((e) => e.rtmr === 2);
    const once = sha384(zero, fromHex(first?.digest ?? ""));
    assert.equal(without.rtmr2, sha384(fromHex(once), fromHex(second?.digest ?? "")));
    assert.equal(without.rtmr3, "00".repeat(48));
    assert.equal(tdxRegisters(tdxEvents(bootOf({ acpi }))).rtmr0?.length, 96);
  });

  it("names the component that changed, and only it", () => {
    const changed = leastKernel();
    changed[9000] = 8;
    const cases: readonly [Partial<TdxBoot>, string][] = [
      [{ cmdline: "loud" }, "command line"],
      [{ initrd: Buffer.from("another") }, "kernel initrd"], // its size is in the kernel's header
      [{ initrd: Buffer.from("INITRD") }, "initrd"],
      [{ kernel: changed }, "kernel"],
      [{ memory: 32 * 2 ** 30 }, "memory"],
      [{ firmware: { ...REAL_FIRMWARE, data: new Uint8Array(0x84000).fill(1) } }, "firmware"],
      [{ acpi: { ...acpi, tables: Buffer.of(4) } }, "machine"],
      [{}, ""],
    ];
    for (const [change, components] of cases) {
      const differences = explainTdx(tdxEvents(bootOf({ acpi })), log(bootOf({ acpi, ...change })));
      assert.equal(differences.map((d) => d.component).join(" "), components);
    }
    const longer = [...log(bootOf({ acpi })), { rtmr: 1, digest: new Uint8Array(48) }];
    assert.equal(explainTdx(tdxEvents(bootOf({ acpi })), longer)[0]?.component, "boot");
    const shorter = log(bootOf({ acpi })).filter((e) => e.rtmr !== 2);
    assert.deepEqual(
      explainTdx(tdxEvents(bootOf({ acpi })), shorter).map((d) => d.measured),
      [undefined, undefined],
    );
  });

  it("puts MRTD and registers together for an image", (t) => {
    if (skip) return t.skip(skip);
    const firmware = read(join(FOLDER, "mrtd-vectors/tdvf_synthetic_0.bin"));
    const image = { kernel: leastKernel(), initrd: Buffer.from("initrd"), cmdline: "quiet" };
    const prediction = predictTdx(image, { firmware, memory: 2 ** 30 });
    assert.equal(prediction.mrtd.pageByPage, toHex(mrTd(readTdxFirmware(firmware), "page-by-page")));
    assert.equal(prediction.registers.rtmr0, undefined);
    const more = predictTdx(image, { firmware, memory: 2 ** 31, acpi });
    assert.equal(more.mrtd.pageByPage, prediction.mrtd.pageByPage);
    assert.notEqual(more.registers.rtmr0, undefined);
    assert.equal(more.registers.rtmr2, prediction.registers.rtmr2);
  });

  it("refuses firmware without TDX metadata, or with sections outside", () => {
    assert.throws(() => readTdxFirmware(new Uint8Array(4096)), { code: "FIRMWARE_MALFORMED" });
    if (skip) return;
    const good = read(join(FOLDER, "mrtd-vectors/tdvf_synthetic_0.bin"));
    const at = Buffer.from(good).indexOf("TDVF");
    const edit = (offset: number, value: number): Uint8Array => {
      const bytes = Buffer.from(good);
      bytes.writeUInt32LE(value, at + offset);
      return bytes;
    };
    assert.equal(readTdxFirmware(good).sections.length, 4);
    for (const bad of [
      edit(0, 0),
      edit(8, 2),
      edit(12, 65),
      edit(12, 60),
      edit(16, 0xffffff),
      edit(20, 0xffffff),
      edit(24, 1),
      edit(32, 100),
    ]) {
      assert.throws(() => readTdxFirmware(bad), { kind: "malformed" });
    }
  });
});
