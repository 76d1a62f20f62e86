import { createHash } from "node:crypto";
import { ByteReader } from "@shelter/base";
import { SealError } from "../errors.ts";
import { memoryBelow4G } from "./platform-info.ts";

const HEADER_SIZE = 8192; // what QEMU reads, patches and writes back
const REAL_ADDRESS = 0x10000;
const CMDLINE_ADDRESS = 0x20000;
const ACPI_DATA_SIZE = 0x28000; // PCMachineClass.acpi_data_size since pc-q35-2.0
const MAX_SECTIONS = 96; // as Windows' loader; each is hashed, and nothing says they do not overlap
const CAN_USE_HEAP = 0x80;
const XLF_CAN_BE_LOADED_ABOVE_4G = 1 << 1;

/**
 * The kernel as the firmware loads it from QEMU: QEMU fills in the boot loader's part of the setup header (Linux
 * Documentation/x86/boot.rst) before it hands the file over (QEMU 7.2, hw/i386/x86.c, x86_load_linux).
 */
export function kernelFromQemu(kernel: Uint8Array, initrdSize: number, memory: number): Uint8Array {
  const patched = Buffer.from(kernel);
  if (patched.byteLength < HEADER_SIZE || patched.toString("latin1", 0x202, 0x206) !== "HdrS") {
    throw new SealError("KERNEL_MALFORMED", "malformed", "the kernel has no setup header");
  }
  const protocol = patched.readUInt16LE(0x206);
  const aboveAllowed = (patched.readUInt16LE(0x236) & XLF_CAN_BE_LOADED_ABOVE_4G) !== 0;
  if (protocol < 0x20c || !aboveAllowed || (patched[0x211]! & 1) === 0) {
    throw new SealError(
      "KERNEL_MALFORMED",
      "malformed",
      `the kernel speaks boot protocol 0x${protocol.toString(16)}, too old`,
    );
  }
  const initrdEnd = memoryBelow4G(memory) - ACPI_DATA_SIZE - 1;
  if (initrdSize >= initrdEnd) {
    throw new SealError(
      "SHAPE_UNSUPPORTED",
      "usage",
      `an initrd of ${initrdSize} bytes does not fit into ${memory} bytes of memory`,
      {
        hint: "give the guest more memory, or build with -T disk",
      },
    );
  }
  patched.writeUInt32LE(CMDLINE_ADDRESS, 0x228);
  patched[0x210] = 0xb0; // type_of_loader: QEMU
  patched[0x211]! |= CAN_USE_HEAP;
  patched.writeUInt16LE(CMDLINE_ADDRESS - REAL_ADDRESS - 0x200, 0x224); // heap_end_ptr
  patched.writeUInt32LE(Math.floor((initrdEnd - initrdSize) / 4096) * 4096, 0x218);
  patched.writeUInt32LE(initrdSize, 0x21c);
  return patched;
}

/**
 * Digest of a PE image as a signature would cover it (Microsoft "Windows Authenticode Portable Executable
 * Signature Format"; edk2 SecurityPkg/Tcg/Tcg2Dxe/MeasureBootPeCoff.c): all but checksum and certificates.
 */
export function authenticodeDigest(image: Uint8Array, algorithm: "sha256" | "sha384" = "sha256"): string {
  const reader = (offset: number): ByteReader => {
    const r = new ByteReader(image, "the kernel's PE header");
    r.skip(offset);
    return r;
  };
  const malformed = (what: string): SealError =>
    new SealError("KERNEL_MALFORMED", "malformed", `the kernel is no EFI application: ${what}`);
  if (reader(0).u16le() !== 0x5a4d) throw malformed("no MZ");
  const pe = reader(0x3c).u32le();
  if (reader(pe).u32le() !== 0x4550) throw malformed("no PE signature");
  const sections = reader(pe + 6).u16le();
  if (sections > MAX_SECTIONS) throw malformed(`${sections} sections`);
  const optionalSize = reader(pe + 20).u16le();
  const optional = pe + 24;
  const magic = reader(optional).u16le();
  if (magic !== 0x20b) throw malformed(`optional header 0x${magic.toString(16)}, not PE32+`);
  const checksum = optional + 64;
  const headersSize = reader(optional + 60).u32le();
  const directories = reader(optional + 108).u32le();
  const security = optional + 112 + 4 * 8;
  const hash = createHash(algorithm);
  const feed = (from: number, to: number): void => {
    if (to < from) throw malformed(`a part from ${from} to ${to}`);
    hash.update(reader(from).take(to - from));
  };
  feed(0, checksum);
  let certificates = 0;
  if (directories > 4) {
    feed(checksum + 4, security);
    feed(security + 8, headersSize);
    certificates = reader(security + 4).u32le();
  } else {
    feed(checksum + 4, headersSize);
  }
  const table = reader(optional + optionalSize);
  const parts: { offset: number; size: number }[] = [];
  for (let i = 0; i < sections; i++) {
    const entry = table.sub(40, "the kernel's section table");
    entry.skip(16);
    const size = entry.u32le();
    parts.push({ size, offset: entry.u32le() });
  }
  let hashed = headersSize;
  for (const { offset, size } of parts.sort((a, b) => a.offset - b.offset)) {
    if (size === 0) continue;
    feed(offset, offset + size);
    hashed += size;
  }
  const rest = image.byteLength - certificates - hashed;
  if (rest < 0 && image.byteLength > hashed) throw malformed("its certificates overlap its sections");
  if (rest > 0) feed(hashed, hashed + rest);
  return hash.digest("hex");
}
