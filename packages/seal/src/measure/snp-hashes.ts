import { createHash } from "node:crypto";
import { guidBytes } from "./ovmf-sev.ts";

/** What boots behind the firmware, by SHA-256. */
export interface KernelHashes {
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly cmdline: Uint8Array;
}

/** The hashes QEMU enters for a kernel: no initrd is an empty one, and the command line ends with a zero. */
export function kernelHashes(
  kernel: Uint8Array,
  initrd: Uint8Array | undefined,
  cmdline: string,
): KernelHashes {
  const sha256 = (bytes: Uint8Array): Uint8Array => createHash("sha256").update(bytes).digest();
  return {
    kernel: sha256(kernel),
    initrd: sha256(initrd ?? new Uint8Array()),
    cmdline: sha256(Buffer.from(`${cmdline}\0`, "utf8")),
  };
}

const TABLE = "9438d606-4f22-4cc9-b479-a793d411fd21";
const ENTRIES = [
  ["97d02dd8-bd20-4c94-aa78-e7714d36ab2a", "cmdline"],
  ["44baf731-3a2f-4bd7-9af1-41e29169781d", "initrd"],
  ["4de79437-abd2-427f-b835-d5b172d2045b", "kernel"],
] as const;

/** The table of hashes OVMF checks the kernel against (QEMU, target/i386/sev.c, SevHashTable), padded to 16 bytes. */
export function sevHashTable(hashes: KernelHashes): Uint8Array {
  const entrySize = 16 + 2 + 32;
  const size = 16 + 2 + ENTRIES.length * entrySize;
  const table = Buffer.alloc(Math.ceil(size / 16) * 16);
  table.set(guidBytes(TABLE), 0);
  table.writeUInt16LE(size, 16);
  for (const [i, [guid, member]] of ENTRIES.entries()) {
    const at = 18 + i * entrySize;
    table.set(guidBytes(guid), at);
    table.writeUInt16LE(entrySize, at + 16);
    table.set(hashes[member], at + 18);
  }
  return table;
}
