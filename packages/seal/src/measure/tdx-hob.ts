import { firmwareError } from "./ovmf-sev.ts";
import { TDVF_SECTION, type TdxFirmware, tdvfSection } from "./tdx-firmware.ts";

const LOW_MEMORY_LIMIT = 0xb0000000; // past it QEMU's q35 splits memory at 2 GiB
const LOW_MEMORY = 0x80000000n;
const FOUR_GIB = 0x1_0000_0000n;
const HANDOFF_SIZE = 56;
const RESOURCE_SIZE = 48;
const END_SIZE = 8;
const SYSTEM_MEMORY = 0;
const UNACCEPTED_MEMORY = 7;

interface Range {
  readonly start: bigint;
  readonly end: bigint;
  readonly accepted: boolean;
}

/** Guest memory by who accepts it: what the firmware brought along is, the rest is up to the guest. */
function memoryRanges(firmware: TdxFirmware, memory: bigint): Range[] {
  const taken = firmware.sections
    .filter((s) => (s.type === TDVF_SECTION.tdHob || s.type === TDVF_SECTION.tempMem) && s.memorySize > 0n)
    .map((s) => ({ start: s.gpa, end: s.gpa + s.memorySize, accepted: true }))
    .sort((a, b) => (a.start < b.start ? -1 : 1));
  const ranges: Range[] = [];
  let at = 0n;
  const low = memory < BigInt(LOW_MEMORY_LIMIT) ? memory : LOW_MEMORY;
  for (const range of taken) {
    if (range.start < at || range.end > low) {
      throw firmwareError(`TDX sections overlap, or do not fit into ${memory} bytes of memory`);
    }
    if (range.start > at) ranges.push({ start: at, end: range.start, accepted: false });
    ranges.push(range);
    at = range.end;
  }
  const last = { start: at, accepted: false };
  if (memory < BigInt(LOW_MEMORY_LIMIT)) return [...ranges, { ...last, end: memory }];
  return [
    ...ranges,
    { ...last, end: LOW_MEMORY },
    { start: FOUR_GIB, end: FOUR_GIB + memory - LOW_MEMORY, accepted: false },
  ];
}

/**
 * The TD hand-off block QEMU writes for the firmware (QEMU, hw/i386/tdvf-hob.c), which the firmware
 * measures first: guest memory, as the PI specification's HOBs tell it.
 */
export function tdHob(firmware: TdxFirmware, memory: number): Uint8Array {
  const base = tdvfSection(firmware, TDVF_SECTION.tdHob, "TD HOB").gpa;
  const ranges = memoryRanges(firmware, BigInt(memory));
  // The end marker lies behind what is measured, and its address counts.
  const hob = Buffer.alloc(HANDOFF_SIZE + ranges.length * RESOURCE_SIZE);
  hob.writeUInt16LE(1, 0); // EFI_HOB_TYPE_HANDOFF
  hob.writeUInt16LE(HANDOFF_SIZE, 2);
  hob.writeUInt32LE(9, 8); // version
  hob.writeBigUInt64LE(base + BigInt(hob.byteLength + END_SIZE), 48);
  for (const [i, range] of ranges.entries()) {
    const at = HANDOFF_SIZE + i * RESOURCE_SIZE;
    hob.writeUInt16LE(3, at); // EFI_HOB_TYPE_RESOURCE_DESCRIPTOR
    hob.writeUInt16LE(RESOURCE_SIZE, at + 2);
    hob.writeUInt32LE(range.accepted ? SYSTEM_MEMORY : UNACCEPTED_MEMORY, at + 24);
    hob.writeUInt32LE(7, at + 28); // present, initialized, tested
    hob.writeBigUInt64LE(range.start, at + 32);
    hob.writeBigUInt64LE(range.end - range.start, at + 40);
  }
  return hob;
}
