import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { ByteReader, sameBytes } from "@shelter/base";
import { SealError } from "../errors.ts";

/** A kernel module of the guest: file name, content and the names of those it needs. */
export type KernelModule = {
  readonly name: string;
  readonly file: string;
  readonly bytes: Uint8Array;
  readonly depends: readonly string[];
  /** What should be there before it, if there is such a module (`softdep=pre:`). */
  readonly before: readonly string[];
};

/** Every module file below a directory by its name with underscores. */
export function listModules(directory: string): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const path of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
    if (path.endsWith(".ko")) found.set(moduleName(path), join(directory, path));
  }
  return found;
}

/** The kernel's own name of a module: a dash and an underscore are the same. */
export function moduleName(path: string): string {
  return basename(path, ".ko").replaceAll("-", "_");
}

/** Reads one module and the dependencies in its `.modinfo` section. */
export function readModule(path: string): KernelModule {
  return readModuleBytes(withoutSignature(readFileSync(path), path), path);
}

const SIGNATURE_MAGIC = Buffer.from("~Module signature appended~\n", "latin1");
const SIGNATURE_RECORD = 12; // struct module_signature (Linux, include/linux/module_signature.h); its end is the length

/**
 * The module without the signature Debian appended. The initrd is measured whole, so the signature vouches for nothing
 * more, and checking one costs an emulated guest tens of milliseconds a module.
 */
export function withoutSignature(bytes: Uint8Array, path: string): Uint8Array {
  const end = bytes.byteLength - SIGNATURE_MAGIC.byteLength;
  if (end < SIGNATURE_RECORD || !sameBytes(bytes.subarray(end), SIGNATURE_MAGIC)) return bytes;
  const reader = new ByteReader(bytes.subarray(end - 4, end), `${path}: module signature`);
  const kept = end - SIGNATURE_RECORD - reader.u32be();
  if (kept <= 0)
    throw new SealError("ASSETS_MISSING", "malformed", `${path}: its signature is longer than the module`);
  return bytes.subarray(0, kept);
}

/** As `readModule`, of bytes already read; `path` gives the name. */
export function readModuleBytes(bytes: Uint8Array, path: string): KernelModule {
  const depends = new Set<string>();
  const before = new Set<string>();
  for (const entry of sectionOf(bytes, ".modinfo", path).split("\0")) {
    if (entry.startsWith("depends=")) {
      for (const name of entry.slice("depends=".length).split(",")) {
        if (name !== "") depends.add(moduleName(name));
      }
    } else if (entry.startsWith("softdep=")) {
      const pre = /\bpre:([^:]*)(?:\bpost:|$)/.exec(entry)?.[1] ?? "";
      for (const name of pre.split(" ")) if (name !== "") before.add(moduleName(name));
    }
  }
  return {
    name: moduleName(path),
    file: basename(path),
    bytes,
    depends: [...depends].sort(),
    before: [...before].sort(),
  };
}

/** Text of an ELF64 little-endian section (System V ABI, chapter 4). */
function sectionOf(bytes: Uint8Array, wanted: string, path: string): string {
  const malformed = (what: string): SealError =>
    new SealError("KERNEL_MALFORMED", "malformed", `${path} is not a kernel module: ${what}`);
  const at = (offset: number): ByteReader => {
    const reader = new ByteReader(bytes, path);
    reader.skip(offset);
    return reader;
  };
  if (Buffer.from(bytes.subarray(0, 6)).toString("latin1") !== "\x7fELF\x02\x01")
    throw malformed("no ELF64 header");
  const table = Number(at(40).u64le());
  const header = at(58);
  const entrySize = header.u16le();
  const count = header.u16le();
  const namesIndex = header.u16le();
  const section = (index: number): { name: number; offset: number; size: number } => {
    const reader = at(table + index * entrySize);
    const name = reader.u32le();
    reader.skip(20);
    return { name, offset: Number(reader.u64le()), size: Number(reader.u64le()) };
  };
  const names = section(namesIndex);
  for (let i = 0; i < count; i++) {
    const s = section(i);
    const rest = at(names.offset + s.name).take(wanted.length + 1);
    if (Buffer.from(rest).toString("latin1") === `${wanted}\0`) {
      return Buffer.from(at(s.offset).take(s.size)).toString("latin1");
    }
  }
  throw malformed(`no section ${wanted}`);
}
