import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { digestOf } from "@shelter/base";
import { commandLine } from "../../src/cmdline.ts";
import { identityOf } from "../../src/record.ts";
import type { ImageRecord } from "../../src/sealed.ts";

/** The least that passes for a bootable kernel: a setup header and a PE header with no sections. */
export function leastKernel(): Uint8Array {
  const bytes = Buffer.alloc(16384, 7);
  bytes.write("MZ", 0, "latin1");
  bytes.writeUInt32LE(0x40, 0x3c);
  bytes.write("PE\0\0", 0x40, "latin1");
  bytes.writeUInt16LE(0, 0x46);
  bytes.writeUInt16LE(240, 0x54);
  bytes.writeUInt16LE(0x20b, 0x58);
  bytes.writeUInt32LE(4096, 0x58 + 60);
  bytes.writeUInt32LE(6, 0x58 + 108);
  bytes.writeUInt32LE(0, 0x58 + 112 + 36);
  bytes.write("HdrS", 0x202, "latin1");
  bytes.writeUInt16LE(0x20f, 0x206);
  bytes.writeUInt8(1, 0x211);
  bytes.writeUInt16LE(2, 0x236);
  return bytes;
}

/** A directory with all of a sealed image that is measured. */
export function measurable(directory: string, initrd = "initrd", manifest = "{}"): ImageRecord {
  const files = {
    kernel: leastKernel(),
    initrd: Buffer.from(initrd),
    "manifest.json": Buffer.from(manifest),
  };
  mkdirSync(directory, { recursive: true });
  for (const [name, bytes] of Object.entries(files)) writeFileSync(join(directory, name), bytes);
  const listed = {
    kernel: { digest: digestOf(files.kernel), size: files.kernel.byteLength },
    initrd: { digest: digestOf(files.initrd), size: files.initrd.byteLength },
    "manifest.json": { digest: digestOf(files["manifest.json"]), size: manifest.length },
  };
  const cmdline = commandLine(digestOf(files["manifest.json"]), undefined);
  const core = { shape: "initrd", cmdline, files: listed } as const;
  const record: ImageRecord = {
    version: 1,
    identity: identityOf(core),
    ...core,
    created: null,
    source: { kind: "directory" },
    guest: { kernelVersion: "6.1", agent: digestOf(Buffer.from("agent")) },
  };
  writeFileSync(join(directory, "image.json"), JSON.stringify(record));
  return record;
}
