import { SealError } from "../errors.ts";
import type { MachineShape, Processor } from "./measurement.ts";

const GiB = 2n ** 30n;
const SIZE = 0x8a; // EFI_HOB_GUID_TYPE (24 bytes) and the members behind it, packed

const Q35_HOST_BRIDGE = 0x29c0;
const PCI_EXPRESS_BASE = 0xb0000000n;
const DEFAULT_MMIO64_SIZE = 32n * GiB; // PcdPciMmio64Size of OvmfPkgX64.dsc
const MAX_CPUS_DEFAULT = 64; // PcdCpuMaxLogicalProcessorNumber
const AP_STACK_SIZE = 0x8000n; // PcdCpuApStackSize

/** Bytes below 4 GiB of a q35 machine (QEMU, hw/i386/pc_q35.c, pc_q35_init). */
export function memoryBelow4G(memory: number): number {
  const low = memory >= 0xb0000000 ? 0x80000000 : 0xb0000000;
  return Math.min(memory, low);
}

/**
 * What OVMF's PlatformPei knows of a q35 machine at the end of its phase, in memory: EFI_HOB_PLATFORM_INFO of
 * edk2-stable202211 (OvmfPkg/Include/Library/PlatformInitLib.h; packed, little-endian), filled as
 * OvmfPkg/PlatformPei and OvmfPkg/Library/PlatformInitLib do without SMM, SEV and TDX.
 */
export function platformInfo(shape: MachineShape, processor: Processor): Uint8Array {
  const low = BigInt(memoryBelow4G(shape.memory));
  const top = 4n * GiB + BigInt(shape.memory) - low;
  if (shape.memory > 2 ** 40 - 2 ** 36) {
    // From here on QEMU moves memory above AMD's HyperTransport hole, depending on the processor.
    throw new SealError("SHAPE_UNSUPPORTED", "usage", `no predictions for ${shape.memory} bytes of memory`);
  }
  // PlatformGetFirstNonAddress
  const mmio64 = alignUp(alignUp(top, GiB), DEFAULT_MMIO64_SIZE);
  let mmio64Base = mmio64;
  let mmio64Size = DEFAULT_MMIO64_SIZE;
  const firstNonAddress = mmio64 + DEFAULT_MMIO64_SIZE;
  // PlatformAddressWidthFromCpuid, PlatformDynamicMmioWindow
  let width = trustedWidth(processor);
  if (width !== undefined) {
    const space = 1n << BigInt(width);
    const window = space >> 3n;
    if (mmio64Size < window && mmio64Base + window < space) {
      mmio64Size = window;
      mmio64Base = space - window;
    }
  } else {
    width = Math.max(36, (firstNonAddress - 1n).toString(2).length);
  }
  // PublishPeiMemory
  const s3Size = 0x80000n + BigInt(shape.cpus) * AP_STACK_SIZE;

  const bytes = Buffer.alloc(SIZE);
  let at = 24; // the HOB's header stays empty here: it is written where the structure is copied to
  const u8 = (value: number): void => {
    at = bytes.writeUInt8(value, at);
  };
  const u16 = (value: number): void => {
    at = bytes.writeUInt16LE(value, at);
  };
  const u32 = (value: number | bigint): void => {
    at = bytes.writeUInt32LE(Number(value), at);
  };
  const u64 = (value: bigint): void => {
    at = bytes.writeBigUInt64LE(value, at);
  };
  u16(Q35_HOST_BRIDGE);
  u64(0n); // PcdConfidentialComputingGuestAttr
  u8(0); // SevEsIsEnabled
  u32(0); // BootMode: BOOT_WITH_FULL_CONFIGURATION
  u8(1); // S3Supported
  u8(0); // SmmSmramRequire
  u8(0); // Q35SmramAtDefaultSmbase
  u16(0); // Q35TsegMbytes
  u64(firstNonAddress);
  u8(width);
  u32(low <= 2n * GiB ? 2n * GiB : PCI_EXPRESS_BASE); // Uc32Base
  u32(0); // Uc32Size
  u8(0); // PcdSetNxForStack
  u64(0n); // PcdTdxSharedBitMask
  u64(mmio64Base);
  u64(mmio64Size);
  u32(PCI_EXPRESS_BASE + 0x10000000n); // PcdPciMmio32Base
  u32(0xfc000000n - PCI_EXPRESS_BASE - 0x10000000n); // PcdPciMmio32Size
  u64(0x6000n); // PcdPciIoBase
  u64(0xa000n); // PcdPciIoSize
  u64(0n); // PcdEmuVariableNvStoreReserved
  u32(shape.cpus); // PcdCpuBootLogicalProcessorNumber
  u32(shape.cpus); // PcdCpuMaxLogicalProcessorNumber
  u32(MAX_CPUS_DEFAULT);
  u32(low - s3Size); // S3AcpiReservedMemoryBase
  u32(s3Size); // S3AcpiReservedMemorySize
  return bytes;
}

/** The address width OVMF believes; undefined where it computes one from the memory instead. */
function trustedWidth({ physBits, vendor }: Processor): number | undefined {
  const believed =
    physBits >= 41 || (vendor === "AuthenticAMD" ? physBits === 40 : physBits === 36 || physBits === 39);
  return believed ? Math.min(physBits, 47) : undefined;
}

function alignUp(value: bigint, unit: bigint): bigint {
  return ((value + unit - 1n) / unit) * unit;
}
