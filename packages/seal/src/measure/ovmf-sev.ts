import { ByteReader, toHex } from "@shelter/base";
import { SealError } from "../errors.ts";

/** What an OVMF section in guest memory is to SEV-SNP (edk2, OvmfPkg/ResetVector/X64/OvmfSevMetadata.asm). */
export const SEV_SECTION = { memory: 1, secrets: 2, cpuid: 3, svsmCaa: 4, kernelHashes: 0x10 } as const;

/** One section of the SEV metadata. */
export interface SevSection {
  readonly gpa: number;
  readonly size: number;
  readonly type: number;
}

/** A firmware image as SEV and TDX see it: where it lies, and the tables at its end. */
export interface OvmfImage {
  readonly data: Uint8Array;
  /** Guest physical address of its first byte. */
  readonly gpa: number;
  /** Entries of the GUIDed table before the reset vector, by GUID. */
  readonly table: ReadonlyMap<string, Uint8Array>;
  /** In the order the VMM adds them. */
  readonly sections: readonly SevSection[];
}

const FOUR_GIB = 0x1_0000_0000;
const MAX_FIRMWARE_SIZE = 64 * 2 ** 20;
const MAX_SECTIONS = 64; // real firmware has under 10
const PAGE = 4096;
const FOOTER_OFFSET = 32 + 18; // the reset vector's 32 bytes, then length and GUID of the footer

/** GUIDs of the table's entries this library reads. */
export const OVMF_GUID = {
  footer: "96b582de-1fb2-45f7-baea-a366c55a082d",
  sevHashTable: "7255371f-3a3b-4b04-927b-1da6efa8d454",
  sevEsReset: "00f771de-1a7e-4fcb-890e-68c77e2fb44e",
  sevMetadata: "dc886566-984a-4798-a75e-5585a7bf67cc",
  svsmInfo: "a789a612-0597-4c4b-a49f-cbb1fe9d1ddd",
  tdxMetadata: "e47a6535-984a-4798-865e-4685a7bf8ec2",
} as const;

/** A GUID of 16 bytes, the first three parts little-endian, as text. */
export function guidText(bytes: Uint8Array): string {
  const part = (from: number, to: number, little: boolean): string => {
    const slice = Uint8Array.from(bytes.subarray(from, to));
    return toHex(little ? slice.reverse() : slice);
  };
  return `${part(0, 4, true)}-${part(4, 6, true)}-${part(6, 8, true)}-${part(8, 10, false)}-${part(10, 16, false)}`;
}

/** A GUID in text as its 16 bytes. */
export function guidBytes(text: string): Uint8Array {
  const [a = "", b = "", c = "", d = "", e = ""] = text.split("-");
  const little = (hex: string): Buffer => Buffer.from(hex, "hex").reverse();
  return Buffer.concat([little(a), little(b), little(c), Buffer.from(d + e, "hex")]);
}

/** The error of a firmware that is not what it must be. */
export function firmwareError(message: string): SealError {
  return new SealError("FIRMWARE_MALFORMED", "malformed", `firmware: ${message}`);
}

/** Reads firmware that ends at 4 GiB of guest memory, or below `end`. Its last 4 KiB alone will do. */
export function readOvmf(data: Uint8Array, end = FOUR_GIB): OvmfImage {
  if (data.byteLength > MAX_FIRMWARE_SIZE || data.byteLength % PAGE !== 0 || data.byteLength === 0) {
    throw firmwareError(`${data.byteLength} bytes are no whole number of pages up to ${MAX_FIRMWARE_SIZE}`);
  }
  const table = readTable(data);
  return { data, gpa: end - data.byteLength, table, sections: readSections(data, table) };
}

/** The table is read backwards: each entry ends with its length and GUID. */
function readTable(data: Uint8Array): Map<string, Uint8Array> {
  const table = new Map<string, Uint8Array>();
  const view = new DataView(data.buffer, data.byteOffset, data.byteLength);
  const footer = data.byteLength - FOOTER_OFFSET;
  if (guidText(data.subarray(footer + 2, footer + 18)) !== OVMF_GUID.footer) return table;
  const start = footer + 18 - view.getUint16(footer, true);
  if (start < 0 || start > footer) throw firmwareError("its table is longer than itself");
  let end = footer;
  while (end - start >= 18) {
    const size = view.getUint16(end - 18, true);
    if (size < 18 || end - size < start) throw firmwareError(`an entry of ${size} bytes in its table`);
    const guid = guidText(data.subarray(end - 16, end));
    if (table.has(guid)) throw firmwareError(`${guid} twice in its table`);
    table.set(guid, data.subarray(end - size, end - 18));
    end -= size;
  }
  return table;
}

/** The number an entry begins with. */
export function entryNumber(image: OvmfImage, guid: string): number | undefined {
  const entry = image.table.get(guid);
  return entry === undefined ? undefined : new ByteReader(entry, "firmware table entry").u32le();
}

function readSections(data: Uint8Array, table: ReadonlyMap<string, Uint8Array>): SevSection[] {
  const entry = table.get(OVMF_GUID.sevMetadata);
  if (entry === undefined) return [];
  const offset = new ByteReader(entry, "firmware table entry").u32le();
  if (offset > data.byteLength) throw firmwareError("its SEV metadata lies outside");
  const r = new ByteReader(data.subarray(data.byteLength - offset), "firmware SEV metadata");
  if (Buffer.from(r.take(4)).toString("latin1") !== "ASEV")
    throw firmwareError("no SEV metadata where it points to");
  const length = r.u32le();
  const version = r.u32le();
  const count = r.u32le();
  if (version !== 1 || count > MAX_SECTIONS || length < 16 + count * 12) {
    throw firmwareError(`SEV metadata of version ${version} with ${count} sections`);
  }
  return Array.from({ length: count }, () => ({ gpa: r.u32le(), size: r.u32le(), type: r.u32le() }));
}
