import { ByteReader } from "@shelter/base";
import { entryNumber, firmwareError, OVMF_GUID, readOvmf } from "./ovmf-sev.ts";

/** What a section of TDX firmware is (Intel TDX Virtual Firmware Design Guide, table 11-2). */
export const TDVF_SECTION = {
  bfv: 0,
  cfv: 1,
  tdHob: 2,
  tempMem: 3,
  permMem: 4,
  payload: 5,
  payloadParam: 6,
  tdInfo: 7,
} as const;

/** One section of TDX firmware. */
export interface TdvfSection {
  readonly dataOffset: number;
  readonly rawSize: number;
  readonly gpa: bigint;
  readonly memorySize: bigint;
  readonly type: number;
  /** Bit 0: its content is measured; bit 1: its pages are added later, unmeasured. */
  readonly attributes: number;
}

/** TDX firmware and its sections, in the order the VMM adds them. */
export interface TdxFirmware {
  readonly data: Uint8Array;
  readonly sections: readonly TdvfSection[];
}

const MAX_SECTIONS = 64;
const PAGE = 4096n;
const MAX_TOTAL = 1n << 28n; // real firmware measures 16 MiB at most

/** Reads firmware with TDX metadata (TDVF). */
export function readTdxFirmware(data: Uint8Array): TdxFirmware {
  const offset = entryNumber(readOvmf(data), OVMF_GUID.tdxMetadata);
  if (offset === undefined || offset > data.byteLength) throw firmwareError("no TDX metadata");
  const r = new ByteReader(data.subarray(data.byteLength - offset), "firmware TDX metadata");
  const signature = Buffer.from(r.take(4)).toString("latin1");
  r.skip(4); // length; the count says it too
  const version = r.u32le();
  const count = r.u32le();
  if (signature !== "TDVF" || version !== 1 || count > MAX_SECTIONS) {
    throw firmwareError(`TDX metadata "${signature}" of version ${version} with ${count} sections`);
  }
  const sections: TdvfSection[] = [];
  let total = 0n;
  for (let i = 0; i < count; i++) {
    const section = {
      dataOffset: r.u32le(),
      rawSize: r.u32le(),
      gpa: r.u64le(),
      memorySize: r.u64le(),
      type: r.u32le(),
      attributes: r.u32le(),
    };
    const { dataOffset, rawSize, gpa, memorySize } = section;
    // Memory that is added later and not measured costs nothing, however large.
    if ((section.attributes & 3) !== 2) total += memorySize;
    const pages = gpa % PAGE === 0n && memorySize % PAGE === 0n && gpa + memorySize < 1n << 52n;
    if (
      !pages ||
      total > MAX_TOTAL ||
      BigInt(rawSize) > memorySize ||
      dataOffset + rawSize > data.byteLength
    ) {
      throw firmwareError(`TDX section ${i} of ${memorySize} bytes at 0x${gpa.toString(16)}`);
    }
    sections.push(section);
  }
  return { data, sections };
}

/** The one section of a type. */
export function tdvfSection(firmware: TdxFirmware, type: number, what: string): TdvfSection {
  const found = firmware.sections.find((s) => s.type === type);
  if (found === undefined) throw firmwareError(`no ${what} among its TDX sections`);
  return found;
}

/** What of the firmware's file goes into a section. */
export function tdvfContent(firmware: TdxFirmware, section: TdvfSection): Uint8Array {
  return firmware.data.subarray(section.dataOffset, section.dataOffset + section.rawSize);
}
