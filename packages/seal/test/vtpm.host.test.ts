import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import {
  assetsDirectory,
  build,
  DEFAULT_FIRMWARE,
  measure,
  referenceValues,
  type SealedImage,
} from "../src/index.ts";
import { scratch } from "./support/scratch.ts";
import { missing, run } from "./support/tools.ts";

const MiB = 2 ** 20;
const VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd";
const assets = assetsDirectory();
const noParts = existsSync(join(assets, "kernel.json"))
  ? false
  : `no guest kernel in ${assets}: run bash tools/guest-assets.sh`;
const skip =
  missing("tar2sqfs", "veritysetup", "xz", "gcc", "qemu-system-x86_64", "swtpm", "swtpm_setup") ||
  (existsSync(DEFAULT_FIRMWARE) ? noParts : `no ${DEFAULT_FIRMWARE}`);

/** An image of the real kernel whose process 1 prints the TPM's registers and powers off. */
async function printing(directory: string, shape: "disk" | "initrd"): Promise<SealedImage> {
  const parts = join(directory, "assets");
  const root = join(directory, "root");
  mkdirSync(join(root, "bin"), { recursive: true });
  mkdirSync(parts);
  mkdirSync(join(directory, "state"));
  writeFileSync(join(root, "bin/sh"), "");
  for (const part of ["vmlinuz", "modules", "kernel.json"])
    symlinkSync(join(assets, part), join(parts, part));
  run("gcc", [
    "-static",
    "-O1",
    "-o",
    join(parts, "agent"),
    join(import.meta.dirname, "fixtures/print-pcrs.c"),
  ]);
  return (await build({ source: root, state: join(directory, "state"), assets: parts, shape })).image;
}

/** Boots an image as `@shelter/vm` does and returns what its process 1 printed. */
async function boot(
  t: TestContext,
  directory: string,
  image: SealedImage,
  cpus: number,
  memory: number,
): Promise<string> {
  const tpm = join(directory, "tpm");
  mkdirSync(tpm);
  run("swtpm_setup", ["--tpm2", "--tpmstate", tpm, "--pcr-banks", "sha256", "--overwrite"]);
  copyFileSync(VARIABLES, join(directory, "vars.fd"));
  const socket = join(tpm, "sock");
  const swtpm = spawn(
    "swtpm",
    ["socket", "--tpm2", "--tpmstate", `dir=${tpm}`, "--ctrl", `type=unixio,path=${socket}`, "--terminate"],
    { stdio: "ignore" },
  );
  t.after(() => swtpm.kill("SIGKILL"));
  while (!existsSync(socket)) await new Promise((done) => setTimeout(done, 20));
  const qemu = spawn(
    "qemu-system-x86_64",
    [
      ...[
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-serial",
        "stdio",
        "-accel",
        "tcg,thread=multi",
      ],
      ...[
        "-machine",
        "pc-q35-7.2,smm=off,hpet=off,vmport=off,i8042=off,sata=off,smbus=off,usb=off,graphics=off",
      ],
      ...[
        "-cpu",
        "max,host-phys-bits=off,phys-bits=40",
        "-smp",
        `cpus=${cpus},sockets=1,cores=${cpus},threads=1`,
      ],
      ...["-m", `size=${memory / MiB}M`],
      ...["-drive", `if=pflash,unit=0,format=raw,readonly=on,file=${DEFAULT_FIRMWARE}`],
      ...["-drive", `if=pflash,unit=1,format=raw,file=${join(directory, "vars.fd")}`],
      ...[
        "-kernel",
        join(image.directory, "kernel"),
        "-initrd",
        join(image.directory, "initrd"),
        "-append",
        image.record.cmdline,
      ],
      ...[
        "-chardev",
        `socket,id=tpm,path=${socket}`,
        "-tpmdev",
        "emulator,id=tpm0,chardev=tpm",
        "-device",
        "tpm-tis,tpmdev=tpm0",
      ],
      ...[
        "-device",
        "virtio-serial-pci",
        "-netdev",
        "user,id=net0",
        "-device",
        "virtio-net-pci,netdev=net0,romfile=",
      ],
    ],
    { stdio: ["ignore", "pipe", "inherit"] },
  );
  t.after(() => qemu.kill("SIGKILL"));
  const giveUp = setTimeout(() => qemu.kill("SIGKILL"), 120_000);
  const out: Buffer[] = [];
  qemu.stdout.on("data", (chunk: Buffer) => out.push(chunk));
  await once(qemu, "close");
  clearTimeout(giveUp);
  return Buffer.concat(out).toString("latin1");
}

test("a real boot has exactly the registers that were predicted", { skip, timeout: 180_000 }, async (t) => {
  const directory = scratch(t);
  const image = await printing(directory, "initrd");
  const shape = { cpus: 2, memory: 320 * MiB };
  const predicted = await measure({ imageDirectory: image.directory, platform: "vtpm", ...shape });
  const printed = await boot(t, directory, image, shape.cpus, shape.memory);
  const real: Record<string, string> = {};
  for (const [, pcr, value] of printed.matchAll(/^PCR([0-7]|9) ([0-9A-F]{64})/gm))
    real[pcr ?? ""] = (value ?? "").toLowerCase();
  deepEqual(real, predicted.pcrs, `the guest printed: ${printed.slice(-2000)}`);
  match(printed, new RegExp(`^ROOT ${image.manifest.root.squashfs.size}\r?$`, "m"));
  match(printed, new RegExp(`CMDLINE ${image.record.cmdline} initrd=initrd`));
});

// PCR 0 of real boots of Debian's OVMF 2022.11-6+deb12u2 under QEMU 7.2, emulated.
const PCR0: readonly [number, number, string][] = [
  [1, 256, "ce729d0e02d46cecb9baa54228e55d1be49de54981fe6485a59bf9b222bcc061"],
  [1, 512, "177e29c417b6b61c7cf46ed30b4468931f58642527a268b556254e39b941ec6a"],
  [2, 512, "93b4db75f808ff05b1cc1d62e7921d13e9424e3cbbf4226fa6323d8043f300b2"],
  [1, 1024, "eaa650ae9b6b9c6d0ef4fab4dda3af9769f23c839ca3c98307a7a84831cbb472"],
  [1, 2048, "c501c20076e9fced2e4b00cef62aa471dad27b6fc9037a3aa99ec41d6feaa6bf"],
  [1, 3072, "c501c20076e9fced2e4b00cef62aa471dad27b6fc9037a3aa99ec41d6feaa6bf"],
  [4, 4096, "a4eadffc9c363f9c216b8c0afd05bd9226e706d37167b8304fd49738e488e8a7"],
  [1, 8192, "c501c20076e9fced2e4b00cef62aa471dad27b6fc9037a3aa99ec41d6feaa6bf"],
];

// The same with `-cpu max,vendor=GenuineIntel,phys-bits=40`.
const PCR0_INTEL: readonly [number, number, string][] = [
  [1, 256, "38076278a9f7fe4f6c78241ce5797bf36d704adeef699596bf831117469ebae4"],
  [1, 8192, "41f9eff921e7ac191944cc499cafd3081429bf15eed43163b21aed325aa94098"],
];

test("register 0 is predicted for every shape that was booted, and reference values hold them", {
  skip,
}, async (t) => {
  const { directory, identity } = await printing(scratch(t), "disk");
  const shapes = PCR0.map(([cpus, memory]) => ({ cpus, memory: memory * MiB }));
  const request = { imageDirectory: directory, platform: "vtpm" } as const;
  const reference = await referenceValues("demo", request, shapes);
  deepEqual([reference.version, reference.workload, reference.image], [1, "demo", identity]);
  const pcrs = reference.values.map((v) => (v.platform === "vtpm" ? v.pcrs : {}));
  const values = reference.values.map((v, i) => [v.shape.cpus, v.shape.memory / MiB, pcrs[i]?.["0"]]);
  deepEqual(
    values.filter((_, i) => i % 2 === 0),
    PCR0,
  );
  for (const recorded of PCR0_INTEL)
    ok(
      values.some((v) => v.join() === recorded.join()),
      `no value ${recorded.join()}`,
    );
  const processor = { physBits: 40, vendor: "AuthenticAMD" } as const;
  equal((await referenceValues("demo", { ...request, processor }, shapes)).values.length, shapes.length);
  deepEqual(Object.keys(pcrs[0] ?? {}), ["0", "1", "2", "3", "4", "5", "6", "7", "9"]);
});

test("each part shows in its own register: kernel and initrd size in 4, command line and initrd in 9, machine in 0", {
  skip,
}, async (t) => {
  const image = await printing(scratch(t), "disk");
  const at = async (change: {
    memory?: number;
    cpus?: number;
  }): Promise<{ readonly [pcr: string]: string }> =>
    (
      await measure({
        imageDirectory: image.directory,
        platform: "vtpm",
        cpus: 1,
        memory: 256 * MiB,
        ...change,
      })
    ).pcrs;
  const changed = (a: { readonly [pcr: string]: string }, b: { readonly [pcr: string]: string }): string =>
    Object.keys(a)
      .filter((pcr) => a[pcr] !== b[pcr])
      .join();
  const base = await at({});
  equal(changed(base, await at({ cpus: 2 })), "0");
  equal(changed(base, await at({ memory: 512 * MiB })), "0,4");
  const kernel = readFileSync(join(image.directory, "kernel"));
  kernel[9_000_000] = 0xff - (kernel[9_000_000] ?? 0);
  writeFileSync(join(image.directory, "kernel"), kernel);
  equal(changed(base, await at({})), "4");
});

test("a firmware whose build is not known is refused by name", { skip }, async (t) => {
  const directory = scratch(t);
  const image = await printing(directory, "disk");
  const firmware = readFileSync(DEFAULT_FIRMWARE);
  firmware[1000] = 0xff - (firmware[1000] ?? 0);
  const other = join(directory, "other.fd");
  writeFileSync(other, firmware);
  const request = { imageDirectory: image.directory, platform: "vtpm", cpus: 1, memory: 256 * MiB } as const;
  await rejects(
    measure({ ...request, firmware: other }),
    (error: Error & { code?: string; hint?: string }) => {
      equal(error.code, "FIRMWARE_UNKNOWN");
      ok(error.message.includes(other) && /use one of: Debian ovmf/.test(error.hint ?? ""));
      return true;
    },
  );
  await rejects(measure({ ...request, memory: 0 }), { code: "SHAPE_UNSUPPORTED" });
  await rejects(measure({ ...request, platform: "csv" }), { code: "FIRMWARE_MISSING" });
});
