import { ShelterError } from "@shelter/base";
import { composeManifest } from "../../src/compose.ts";
import { decodeManifest, encodeManifest, type Manifest, parseShelterYaml } from "../../src/index.ts";
import { readModuleBytes } from "../../src/initrd/modules.ts";
import { authenticodeDigest, kernelFromQemu } from "../../src/measure/kernel-image.ts";
import { decodeRecord, identityOf } from "../../src/record.ts";
import { elfModule } from "./assets.ts";
import type { Random } from "./random.ts";

const digest = (n: number): Manifest["root"]["squashfs"]["digest"] =>
  `sha256:${String(n).repeat(64)}` as Manifest["root"]["squashfs"]["digest"];

const YAML = `process: {cmd: [a, "b"], env: {A: x}}
allow: {args: [[x, "*"]], mounts: [{target: /d}]}
secrets:
  - from: kbs:///a/b/c
    file: /run/s
    mode: 0400
ports: [80]
resources: {memory: 256MiB}
`;

function manifestBytes(): Uint8Array {
  const config = { entrypoint: ["/e"], cmd: [], env: [], workingDir: "/", user: "", exposedPorts: [] };
  const part = composeManifest({ config, passwd: "", group: "", shell: false }, parseShelterYaml(YAML, "f"));
  const verity = { rootHash: "2".repeat(64), salt: "3".repeat(64), dataBlocks: 1, hashSize: 8192 };
  return encodeManifest({
    ...part,
    root: { shape: "disk", squashfs: { size: 4096, digest: digest(1) }, verity, check: "whole" },
  });
}

function recordBytes(): Uint8Array {
  const file = { digest: digest(4), size: 1 };
  const record = {
    shape: "initrd",
    cmdline: `quiet panic=-1 loglevel=1 console=null cryptomgr.notests shelter.manifest=${"4".repeat(64)}`,
    files: { kernel: file, initrd: file, "manifest.json": file },
  } as const;
  const rest = { source: { kind: "oci" }, guest: { kernelVersion: "6.1", agent: digest(5) } };
  return Buffer.from(JSON.stringify({ version: 1, identity: identityOf(record), ...record, ...rest }));
}

/** The smallest file that is a kernel to QEMU and an EFI application to the firmware. */
export function tinyKernel(): Uint8Array {
  const bytes = Buffer.alloc(10_240, 0x90);
  bytes.fill(0, 0, 1024);
  bytes.write("MZ");
  bytes.writeUInt32LE(0x40, 0x3c);
  bytes.write("PE\0\0", 0x40, "latin1");
  bytes.writeUInt16LE(1, 0x46);
  bytes.writeUInt16LE(152, 0x54);
  bytes.writeUInt16LE(0x20b, 0x58);
  bytes.writeUInt32LE(1024, 0x58 + 60);
  bytes.writeUInt32LE(5, 0x58 + 108);
  bytes.writeUInt32LE(8192, 0x58 + 152 + 16);
  bytes.writeUInt32LE(1024, 0x58 + 152 + 20);
  bytes.write("HdrS", 0x202);
  bytes.writeUInt16LE(0x20f, 0x206);
  bytes[0x211] = 1;
  bytes.writeUInt16LE(2, 0x236);
  return bytes;
}

/** Each reader of outside data with a right document to start from. */
export const TARGETS: Readonly<
  Record<string, { start: () => Uint8Array; read: (bytes: Uint8Array) => void }>
> = {
  "shelter.yaml": {
    start: () => Buffer.from(YAML),
    read: (bytes) => void parseShelterYaml(Buffer.from(bytes).toString("utf8"), "f"),
  },
  manifest: { start: manifestBytes, read: (bytes) => void decodeManifest(bytes, "manifest.json") },
  record: { start: recordBytes, read: (bytes) => void decodeRecord(bytes, "image.json") },
  module: {
    start: () => elfModule("depends=a,b\0softdep=pre: c"),
    read: (bytes) => void readModuleBytes(bytes, "m.ko"),
  },
  kernel: {
    start: tinyKernel,
    read: (bytes) => void authenticodeDigest(kernelFromQemu(bytes, 1000, 2 ** 28)),
  },
};

const SIGNS = Buffer.from("{}[]:,-*&!|>'\"#%@`?\n \t\\0123/~\u0000é");

/** A document with a few bytes changed, added, taken away or doubled. */
export function mutate(start: Uint8Array, random: Random): Uint8Array {
  let bytes = Buffer.from(start);
  for (let edits = 1 + random.below(4); edits > 0; edits--) {
    const at = random.below(bytes.length + 1);
    const cut = random.below(4);
    const extra =
      random.below(3) === 0
        ? bytes.subarray(random.below(bytes.length + 1), random.below(bytes.length + 1))
        : Buffer.of(random.below(2) === 0 ? random.below(256) : (SIGNS[random.below(SIGNS.length)] ?? 0));
    const keep = random.below(2) === 0 ? extra.length : cut;
    bytes = Buffer.concat([
      bytes.subarray(0, at),
      extra.subarray(0, 4096),
      bytes.subarray(Math.min(at + keep, bytes.length)),
    ]);
  }
  return bytes;
}

/** Feeds mutants to a reader until told to stop; throws on any end but a value or a named error. */
export function fuzz(
  name: string,
  random: Random,
  stop: (tried: number) => boolean,
): { tried: number; accepted: number } {
  const target = TARGETS[name];
  if (target === undefined) throw new Error(`no target ${name}`);
  const start = target.start();
  let accepted = 0;
  let tried = 0;
  for (; !stop(tried); tried++) {
    const bytes = mutate(start, random);
    try {
      target.read(bytes);
      accepted++;
    } catch (error) {
      if (error instanceof ShelterError && error.kind !== "bug") continue;
      throw new Error(
        `${name}, seed ${random.seed}, mutant ${tried}: ${Buffer.from(bytes).toString("base64")}`,
        { cause: error },
      );
    }
  }
  return { tried, accepted };
}
