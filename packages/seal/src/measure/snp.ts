import { createHash } from "node:crypto";
import { SealError } from "../errors.ts";
import {
  entryNumber,
  firmwareError,
  OVMF_GUID,
  type OvmfImage,
  readOvmf,
  SEV_SECTION,
  type SevSection,
} from "./ovmf-sev.ts";
import { type KernelHashes, sevHashTable } from "./snp-hashes.ts";
import { RESET_VECTOR, svsmVmsaPage, type Vmm, vmsaPage } from "./snp-vmsa.ts";

/** What of a guest goes into its launch digest. */
export interface SnpLaunch {
  readonly firmware: OvmfImage;
  /** Digest over the firmware's pages, instead of computing it from the firmware's data. */
  readonly firmwareDigest?: Uint8Array;
  /** With kernel hashes; absent where firmware finds its own way to boot. */
  readonly kernel?: KernelHashes;
  readonly vcpus: number;
  readonly vmm: Vmm;
  readonly cpuSignature: number;
  /** SEV_FEATURES: bit 0 SNP, bit 5 debug swap. */
  readonly guestFeatures: bigint;
  /** A COCONUT-SVSM image under the firmware's variable store; its metadata then counts, not the firmware's. */
  readonly svsm?: { readonly data: Uint8Array; readonly variableStoreSize: number };
}

const PAGE = 4096;
const SIZE = 48;
const MAX_VCPUS = 4096;
const MAX_SECTION_BYTES = 2 ** 26; // real sections lie between 8 and 9 MiB of guest memory
/** Address under which every VMSA is entered: -1, page aligned, 52 bits. */
const VMSA_GPA = 0xfffffffff000n;
const PAGE_TYPE = { normal: 1, vmsa: 2, zero: 3, unmeasured: 4, secrets: 5, cpuid: 6 } as const;

function sha384(...parts: readonly Uint8Array[]): Uint8Array {
  const hash = createHash("sha384");
  for (const part of parts) hash.update(part);
  return hash.digest();
}

/** A launch digest being built up (SEV-SNP ABI specification, SNP_LAUNCH_UPDATE, PAGE_INFO). */
class LaunchDigest {
  #value: Uint8Array;

  constructor(start: Uint8Array = new Uint8Array(SIZE)) {
    this.#value = start;
  }

  get value(): Uint8Array {
    return this.#value;
  }

  add(type: number, gpa: bigint, contents: Uint8Array = new Uint8Array(SIZE)): void {
    const info = Buffer.alloc(0x70 - 2 * SIZE);
    info.writeUInt16LE(0x70, 0);
    info.writeUInt8(type, 2); // then IMI_PAGE, VMPL permissions, all zero
    info.writeBigUInt64LE(gpa, 8);
    this.#value = sha384(this.#value, contents, info);
  }

  normal(gpa: number, data: Uint8Array): void {
    for (let at = 0; at < data.byteLength; at += PAGE) {
      this.add(PAGE_TYPE.normal, BigInt(gpa + at), sha384(data.subarray(at, at + PAGE)));
    }
  }

  empty(type: number, gpa: number, size: number): void {
    for (let at = 0; at < size; at += PAGE) this.add(type, BigInt(gpa + at));
  }
}

/** Digest over the firmware's pages alone: what `firmwareDigest` takes. */
export function snpFirmwareDigest(firmware: OvmfImage): Uint8Array {
  const digest = new LaunchDigest();
  digest.normal(firmware.gpa, firmware.data);
  return digest.value;
}

function addSection(digest: LaunchDigest, section: SevSection, launch: SnpLaunch): void {
  const { gpa, size, type } = section;
  if (gpa % PAGE !== 0 || size % PAGE !== 0 || size > MAX_SECTION_BYTES) {
    throw firmwareError(`a section of ${size} bytes at 0x${gpa.toString(16)}`);
  }
  switch (type) {
    case SEV_SECTION.memory:
      // Google's monitor leaves these pages' content out of the digest.
      digest.empty(launch.vmm === "gce" ? PAGE_TYPE.unmeasured : PAGE_TYPE.zero, gpa, size);
      break;
    case SEV_SECTION.svsmCaa:
      digest.empty(PAGE_TYPE.zero, gpa, size);
      break;
    case SEV_SECTION.secrets:
      digest.add(PAGE_TYPE.secrets, BigInt(gpa));
      break;
    case SEV_SECTION.cpuid:
      // EC2 adds it behind everything else.
      if (launch.vmm !== "ec2") digest.add(PAGE_TYPE.cpuid, BigInt(gpa));
      break;
    case SEV_SECTION.kernelHashes:
      if (launch.kernel === undefined) digest.empty(PAGE_TYPE.zero, gpa, size);
      else digest.normal(gpa, hashesPage(launch.firmware, launch.kernel, size));
      break;
    default:
      throw firmwareError(`a section of type ${type}, which is not known`);
  }
}

function hashesPage(firmware: OvmfImage, kernel: KernelHashes, size: number): Uint8Array {
  const address = entryNumber(firmware, OVMF_GUID.sevHashTable);
  if (address === undefined) throw firmwareError("no place for kernel hashes in its table");
  const table = sevHashTable(kernel);
  const offset = address % PAGE;
  if (size !== PAGE || offset + table.byteLength > PAGE)
    throw firmwareError("kernel hashes do not fit their page");
  const page = new Uint8Array(PAGE);
  page.set(table, offset);
  return page;
}

/** Whether an SNP guest with this firmware checks what it boots against hashes in its launch. */
export function snpChecksKernel(firmware: OvmfImage): boolean {
  return firmware.sections.some((s) => s.type === SEV_SECTION.kernelHashes);
}

/** Whether a SEV or CSV guest with this firmware does; the entry is there with address 0 in builds that do not. */
export function sevChecksKernel(firmware: OvmfImage): boolean {
  return (entryNumber(firmware, OVMF_GUID.sevHashTable) ?? 0) !== 0;
}

/** Why no launch with this firmware speaks for a kernel. */
export function noKernelHashes(): SealError {
  return new SealError(
    "PLATFORM_UNSUPPORTED",
    "unavailable",
    "the firmware has no page for kernel hashes, so it cannot tie a kernel to the launch",
    { hint: "use an OVMF built from OvmfPkg/AmdSev" },
  );
}

/** Digest of everything before the processors: firmware, its sections, the kernel's hashes. */
function beforeProcessors(launch: SnpLaunch): LaunchDigest {
  const { firmware, kernel, vmm } = launch;
  if (kernel !== undefined && !snpChecksKernel(firmware)) {
    throw noKernelHashes();
  }
  const digest = new LaunchDigest(launch.firmwareDigest ?? snpFirmwareDigest(firmware));
  for (const section of firmware.sections) addSection(digest, section, launch);
  if (vmm === "ec2") {
    for (const { gpa, type } of firmware.sections) {
      if (type === SEV_SECTION.cpuid) digest.add(PAGE_TYPE.cpuid, BigInt(gpa));
    }
  }
  return digest;
}

/** Launch digests for 1 vCPU, 2 vCPUs, and so on up to `launch.vcpus`. */
export function* snpLaunchDigests(launch: SnpLaunch): Generator<Uint8Array> {
  const { vcpus, vmm, cpuSignature, guestFeatures, firmware } = launch;
  if (!Number.isInteger(vcpus) || vcpus < 1 || vcpus > MAX_VCPUS) {
    throw new SealError("SHAPE_UNSUPPORTED", "usage", `${vcpus} vCPUs are none of 1 to ${MAX_VCPUS}`);
  }
  if (launch.svsm !== undefined) {
    yield* svsmDigests(launch, launch.svsm);
    return;
  }
  const digest = beforeProcessors(launch);
  digest.add(PAGE_TYPE.vmsa, VMSA_GPA, sha384(vmsaPage(vmm, RESET_VECTOR, cpuSignature, guestFeatures)));
  yield digest.value;
  if (vcpus === 1) return;
  const eip = entryNumber(firmware, OVMF_GUID.sevEsReset);
  if (eip === undefined) throw firmwareError("no reset address for further processors in its table");
  const other = sha384(vmsaPage(vmm, eip, cpuSignature, guestFeatures));
  for (let i = 1; i < vcpus; i++) {
    digest.add(PAGE_TYPE.vmsa, VMSA_GPA, other);
    yield digest.value;
  }
}

/** With an SVSM, which QEMU alone starts: every processor begins in it. */
function* svsmDigests(launch: SnpLaunch, svsm: NonNullable<SnpLaunch["svsm"]>): Generator<Uint8Array> {
  const { firmware, vcpus, vmm, cpuSignature } = launch;
  if (vmm !== "qemu" || launch.kernel !== undefined) {
    throw new SealError(
      "PLATFORM_UNSUPPORTED",
      "unavailable",
      "an svsm starts under QEMU and without kernel hashes only",
    );
  }
  const image = readOvmf(svsm.data, firmware.gpa - svsm.variableStoreSize);
  const offset = entryNumber(image, OVMF_GUID.svsmInfo);
  if (offset === undefined) throw firmwareError("an svsm image without its entry point");
  const digest = new LaunchDigest(launch.firmwareDigest ?? snpFirmwareDigest(firmware));
  digest.normal(image.gpa, image.data);
  for (const section of image.sections) addSection(digest, section, launch);
  const page = sha384(svsmVmsaPage(image.gpa + offset, cpuSignature));
  for (let i = 0; i < vcpus; i++) {
    digest.add(PAGE_TYPE.vmsa, VMSA_GPA, page);
    yield digest.value;
  }
}

/** The MEASUREMENT an SNP report of this guest will have. */
export function snpLaunchDigest(launch: SnpLaunch): Uint8Array {
  let last = new Uint8Array();
  for (const digest of snpLaunchDigests(launch)) last = new Uint8Array(digest);
  return last;
}

/** Launch digest of SEV or SEV-ES, which SEV's firmware keeps as one running hash; Hygon CSV hashes with SM3. */
export function sevLaunchDigest(launch: SnpLaunch, mode: "sev" | "sev-es", hashName = "sha256"): Uint8Array {
  const { firmware, kernel, vcpus, vmm, cpuSignature } = launch;
  const hash = createHash(hashName).update(firmware.data);
  if (kernel !== undefined) {
    if (!sevChecksKernel(firmware)) throw noKernelHashes();
    hash.update(sevHashTable(kernel));
  }
  if (mode === "sev-es") {
    hash.update(vmsaPage(vmm, RESET_VECTOR, cpuSignature, 0n));
    const eip = entryNumber(firmware, OVMF_GUID.sevEsReset);
    if (vcpus > 1 && eip === undefined)
      throw firmwareError("no reset address for further processors in its table");
    const other = vmsaPage(vmm, eip ?? RESET_VECTOR, cpuSignature, 0n);
    for (let i = 1; i < vcpus; i++) hash.update(other);
  }
  return hash.digest();
}
