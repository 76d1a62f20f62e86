import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { type Digest, fromHex, toHex } from "@shelter/base";
import { guidBytes, guidText, OVMF_GUID, type OvmfImage, readOvmf } from "../src/measure/ovmf-sev.ts";
import { type SnpLaunch, sevLaunchDigest, snpFirmwareDigest, snpLaunchDigest } from "../src/measure/snp.ts";
import { explainSnp } from "../src/measure/snp-explain.ts";
import { kernelHashes } from "../src/measure/snp-hashes.ts";
import { diffSnp, predictSnp } from "../src/measure/snp-image.ts";
import { CPU_SIGNATURES } from "../src/measure/snp-vmsa.ts";
import type { ImageRecord } from "../src/sealed.ts";

const FOLDER = join(import.meta.dirname, "../../../../shared/evidence/snp");
const skip = existsSync(FOLDER) ? false : `no evidence corpus at ${FOLDER}`;

type Bytes = { readonly hex?: string; readonly file?: string } | null | undefined;
interface Vector {
  readonly name: string;
  readonly mode: "sev" | "sev-es" | "sev-snp";
  readonly vmm?: SnpLaunch["vmm"];
  readonly vcpus?: number;
  readonly vcpu_sig?: number | null;
  readonly vcpu_model?: string;
  readonly ovmf: string;
  readonly ovmf_sha256?: string;
  readonly ovmf_hash_override?: string | null;
  readonly kernel?: Bytes;
  readonly initrd?: Bytes;
  readonly append?: string | null;
  readonly guest_features?: number;
  readonly expected_launch_digest?: string | null;
  readonly expected_ovmf_hash?: string;
}

function read(path: string): Uint8Array {
  return new Uint8Array(readFileSync(path));
}

function launchOf(vector: Vector, folder: string, firmware: OvmfImage): SnpLaunch {
  const bytes = (b: Bytes): Uint8Array | undefined =>
    b?.file !== undefined ? read(join(folder, b.file)) : b?.hex !== undefined ? fromHex(b.hex) : undefined;
  const kernel = bytes(vector.kernel);
  const override = vector.ovmf_hash_override;
  return {
    firmware,
    vcpus: vector.vcpus ?? 1,
    vmm: vector.vmm ?? "qemu",
    cpuSignature: vector.vcpu_sig ?? 0,
    guestFeatures: BigInt(vector.guest_features ?? 1),
    ...(kernel === undefined
      ? {}
      : { kernel: kernelHashes(kernel, bytes(vector.initrd), vector.append ?? "") }),
    ...(override === undefined || override === null ? {} : { firmwareDigest: fromHex(override) }),
  };
}

function digestOf(vector: Vector, launch: SnpLaunch): string {
  if (vector.expected_ovmf_hash !== undefined) return toHex(snpFirmwareDigest(launch.firmware));
  return toHex(vector.mode === "sev-snp" ? snpLaunchDigest(launch) : sevLaunchDigest(launch, vector.mode));
}

describe("launch digests of sev-snp-measure", { skip }, () => {
  for (const set of ["launch-digest-upstream", "launch-digest-generated"]) {
    const folder = join(FOLDER, set);
    const file = join(folder, "vectors.json");
    if (!existsSync(file)) continue;
    const { vectors, vcpu_sigs } = JSON.parse(readFileSync(file, "utf8")) as {
      vectors: Vector[];
      vcpu_sigs: Record<string, number>;
    };
    it(`${set}: knows the signature of every CPU model`, () => {
      for (const [model, signature] of Object.entries(vcpu_sigs))
        assert.equal(CPU_SIGNATURES[model], signature, model);
    });
    for (const vector of vectors) {
      it(`${set}: ${vector.name}`, (t) => {
        const external = /^EXTERNAL:(\S+)/.exec(vector.ovmf)?.[1];
        const path = external ?? join(folder, vector.ovmf);
        if (!existsSync(path)) return t.skip(`no ${path}`);
        const data = read(path);
        const sha256 = createHash("sha256").update(data).digest("hex");
        if (vector.ovmf_sha256 !== undefined && sha256 !== vector.ovmf_sha256)
          return t.skip(`another ${path}`);
        const launch = launchOf(vector, folder, readOvmf(data));
        const expected = vector.expected_launch_digest ?? vector.expected_ovmf_hash;
        if (expected === undefined || expected === null) {
          assert.throws(() => digestOf(vector, launch), { code: "PLATFORM_UNSUPPORTED" });
        } else {
          assert.equal(digestOf(vector, launch), expected);
        }
      });
    }
  }

  it("gives the measurement a processor signed", () => {
    // Inputs and report of one machine: the digest in the report is AMD's firmware's, not another program's.
    const folder = join(FOLDER, "milan-v3-dstack-launch");
    const inputs = JSON.parse(readFileSync(join(folder, "launch_inputs.json"), "utf8"));
    const entry = (n: number): Uint8Array => {
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setUint32(0, n, true);
      return bytes;
    };
    const launch: SnpLaunch = {
      firmware: {
        data: new Uint8Array(),
        gpa: 0,
        table: new Map([
          [OVMF_GUID.sevHashTable, entry(inputs.sev_hashes_table_gpa)],
          [OVMF_GUID.sevEsReset, entry(inputs.sev_es_reset_eip)],
        ]),
        sections: inputs.ovmf_sections.map((s: { gpa: number; size: number; section_type: number }) => ({
          gpa: s.gpa,
          size: s.size,
          type: s.section_type,
        })),
      },
      firmwareDigest: fromHex(inputs.ovmf_hash),
      kernel: {
        kernel: fromHex(inputs.kernel_hash),
        initrd: fromHex(inputs.initrd_hash),
        cmdline: createHash("sha256").update(`${inputs.base_cmdline}\0`).digest(),
      },
      vcpus: inputs.vcpus,
      vmm: "qemu",
      cpuSignature: CPU_SIGNATURES[inputs.vcpu_type] ?? 0,
      guestFeatures: BigInt(inputs.guest_features),
    };
    const measured = read(join(folder, "report.bin")).subarray(0x90, 0xc0);
    assert.equal(toHex(snpLaunchDigest(launch)), toHex(measured));

    // And what differs is named when the prediction is for something else.
    assert.deepEqual(explainSnp(launch, measured), []);
    assert.deepEqual(explainSnp({ ...launch, vcpus: 8 }, measured), [
      { component: "vcpus", predicted: "8", measured: "2" },
    ]);
    const alternatives = {
      cmdlines: [{ name: "as built", hash: launch.kernel?.cmdline ?? new Uint8Array() }],
      initrds: [{ name: "as built", hash: launch.kernel?.initrd ?? new Uint8Array() }],
      cpuModels: CPU_SIGNATURES,
    };
    const kernel = launch.kernel ?? { kernel: measured, initrd: measured, cmdline: measured };
    const explain = (changed: Partial<SnpLaunch>): string | undefined =>
      explainSnp({ ...launch, ...changed }, measured, alternatives)
        ?.map((d) => d.component)
        .join(" ");
    assert.equal(explain({ kernel: { ...kernel, cmdline: new Uint8Array(32) } }), "command line");
    assert.equal(explain({ kernel: { ...kernel, initrd: new Uint8Array(32) }, vcpus: 4 }), "initrd vcpus");
    assert.equal(explain({ cpuSignature: 0x12345 }), "cpu model");
    assert.equal(explain({ vmm: "ec2" }), "monitor");
    assert.equal(explain({ guestFeatures: 0x21n }), "guest features");
    assert.equal(explain({ kernel: { ...kernel, kernel: new Uint8Array(32) } }), undefined);
  });
});

describe("predictions for sealed images", { skip }, () => {
  const digest = (n: number): Digest => `sha256:${n.toString(16).padStart(64, "0")}` as Digest;
  const record = (kernel: number, initrd: number, cmdline: string): ImageRecord => ({
    version: 1,
    identity: digest(kernel * 1000 + initrd),
    shape: "initrd",
    cmdline,
    created: null,
    files: { kernel: { digest: digest(kernel), size: 1 }, initrd: { digest: digest(initrd), size: 1 } },
    source: { kind: "directory" },
    guest: { kernelVersion: "6.1", agent: digest(0) },
  });
  const firmware = skip
    ? new Uint8Array()
    : read(join(FOLDER, "launch-digest-upstream/ovmf_AmdSev_suffix.bin"));
  const machine = { firmware, cpuModel: "EPYC-v4" };
  const image = record(1, 2, "quiet");

  it("predicts every vCPU count at once, and every CPU model apart", () => {
    const eight = predictSnp(image, machine, 8);
    assert.equal(new Set(eight.measurements).size, 8);
    assert.deepEqual(predictSnp(image, machine, 3).measurements, eight.measurements.slice(0, 3));
    const models = Object.keys(CPU_SIGNATURES).map((cpuModel) =>
      predictSnp(image, { ...machine, cpuModel }, 1),
    );
    assert.equal(
      new Set(models.map((m) => m.measurements[0])).size,
      new Set(Object.values(CPU_SIGNATURES)).size,
    );
    assert.throws(() => predictSnp(image, { ...machine, cpuModel: "max" }, 1), { code: "SHAPE_UNSUPPORTED" });
    const bare = predictSnp(image, { ...machine, kernelHashes: false }, 1);
    assert.deepEqual(Object.keys(bare.components), ["firmware"]);
  });

  it("tells which part of another image was booted", () => {
    const measured = (of: ImageRecord, vcpus = 2): Uint8Array =>
      fromHex(predictSnp(of, machine, vcpus).measurements.at(-1) ?? "");
    const known = { images: [{ name: "other", record: record(7, 8, "loud") }] };
    const diff = (of: ImageRecord, vcpus?: number): string | undefined =>
      diffSnp(image, machine, 2, measured(of, vcpus), known)
        ?.map((d) => `${d.component}: ${d.measured}`)
        .join(", ");
    assert.equal(diff(image), "");
    assert.equal(diff(image, 5), "vcpus: 5");
    assert.equal(diff(record(7, 2, "quiet")), "kernel: that of other");
    assert.equal(diff(record(1, 8, "quiet")), "initrd: that of other");
    assert.equal(diff(record(1, 2, "loud"), 3), "command line: that of other, vcpus: 3");
    assert.equal(diff(record(9, 2, "quiet")), undefined);
  });
});

describe("firmware tables", () => {
  const table = (
    entries: readonly [string, Uint8Array][],
    change: (b: Buffer) => void = () => {},
  ): Uint8Array => {
    const parts = entries.flatMap(([guid, data]) => {
      const head = Buffer.alloc(18);
      head.writeUInt16LE(data.length + 18);
      head.set(guidBytes(guid), 2);
      return [data, head];
    });
    const footer = Buffer.alloc(18);
    footer.writeUInt16LE(Buffer.concat(parts).length + 18);
    footer.set(guidBytes(OVMF_GUID.footer), 2);
    const tail = Buffer.concat([...parts, footer, Buffer.alloc(32)]);
    const image = Buffer.concat([Buffer.alloc(4096 - tail.length), tail]);
    change(image);
    return image;
  };
  const GUID = "01234567-89ab-cdef-0123-456789abcdef";

  it("reads GUIDs as the standard writes them", () => {
    assert.equal(guidText(guidBytes(GUID)), GUID);
    assert.equal(toHex(guidBytes(GUID)), "67452301ab89efcd0123456789abcdef");
  });

  it("refuses firmware whose tables do not hold", () => {
    assert.deepEqual([...(readOvmf(table([[GUID, Uint8Array.of(1, 2)]])).table.get(GUID) ?? [])], [1, 2]);
    assert.equal(readOvmf(new Uint8Array(4096)).table.size, 0);
    const bad: readonly Uint8Array[] = [
      new Uint8Array(0),
      new Uint8Array(4095),
      table([
        [GUID, Uint8Array.of(1)],
        [GUID, Uint8Array.of(1)],
      ]),
      table([[GUID, new Uint8Array()]], (b) => b.writeUInt16LE(17, 4096 - 50 - 18)),
      table([[GUID, new Uint8Array()]], (b) => b.writeUInt16LE(100, 4096 - 50 - 18)),
      table([[GUID, new Uint8Array()]], (b) => b.writeUInt16LE(0xffff, 4096 - 50)),
      table([[OVMF_GUID.sevMetadata, Uint8Array.of(0, 0, 1, 0)]]),
      table([[OVMF_GUID.sevMetadata, Uint8Array.of(64, 0, 0, 0)]]),
      table([[OVMF_GUID.sevMetadata, Uint8Array.of(1)]]),
    ];
    for (const [i, data] of bad.entries())
      assert.throws(() => readOvmf(data), { kind: "malformed" }, `case ${i}`);
  });

  it("refuses sections it does not know, and vCPUs it cannot start", () => {
    const plain = readOvmf(table([]));
    const launch: SnpLaunch = { firmware: plain, vcpus: 1, vmm: "qemu", cpuSignature: 0, guestFeatures: 1n };
    assert.equal(snpLaunchDigest(launch).length, 48);
    const section = (type: number, gpa = 0, size = 4096): SnpLaunch => ({
      ...launch,
      firmware: { ...plain, sections: [{ type, gpa, size }] },
    });
    for (const bad of [
      section(9),
      section(1, 1),
      section(1, 0, 100),
      section(1, 0, 2 ** 31),
      { ...launch, vcpus: 2 },
    ]) {
      assert.throws(() => snpLaunchDigest(bad), { code: "FIRMWARE_MALFORMED" });
    }
    for (const vcpus of [0, -1, 1.5, 5000]) {
      assert.throws(() => snpLaunchDigest({ ...launch, vcpus }), { code: "SHAPE_UNSUPPORTED" });
    }
  });
});
