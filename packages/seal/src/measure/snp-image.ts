import { createHash } from "node:crypto";
import { fromHex, hexOf, toHex } from "@shelter/base";
import { SealError } from "../errors.ts";
import type { ImageRecord } from "../sealed.ts";
import { readOvmf } from "./ovmf-sev.ts";
import { type SnpLaunch, snpFirmwareDigest, snpLaunchDigests } from "./snp.ts";
import { explainSnp, type SnpDifference } from "./snp-explain.ts";
import type { KernelHashes } from "./snp-hashes.ts";
import { CPU_SIGNATURES, type Vmm } from "./snp-vmsa.ts";

/** The machine a launch digest is predicted for. */
export interface SnpMachine {
  /** Bytes of the firmware, an OVMF that checks kernel hashes. */
  readonly firmware: Uint8Array;
  /** QEMU's CPU model; its reset state is measured. */
  readonly cpuModel: string;
  readonly vmm?: Vmm;
  readonly guestFeatures?: bigint;
  /** Without them the firmware alone is measured, and what it boots is anybody's. */
  readonly kernelHashes?: boolean;
}

/** What an SNP report will have as MEASUREMENT, and what that consists of. */
export interface SnpPrediction {
  readonly platform: "snp";
  readonly cpuModel: string;
  readonly vmm: Vmm;
  readonly guestFeatures: string;
  /** Hex, for 1 vCPU first. */
  readonly measurements: readonly string[];
  /** Hex digests of the parts: SHA-384 over the firmware's pages, SHA-256 of the rest. */
  readonly components: {
    readonly firmware: string;
    readonly kernel?: string;
    readonly initrd?: string;
    readonly cmdline?: string;
  };
}

/** The hashes of an image's kernel, initrd and command line as QEMU enters them. */
export function imageHashes(record: ImageRecord): KernelHashes {
  const { kernel, initrd } = record.files;
  if (kernel === undefined || initrd === undefined) {
    throw new SealError(
      "IMAGE_DAMAGED",
      "malformed",
      `image ${record.identity} lists no kernel or no initrd`,
    );
  }
  return {
    kernel: fromHex(hexOf(kernel.digest)),
    initrd: fromHex(hexOf(initrd.digest)),
    cmdline: createHash("sha256").update(`${record.cmdline}\0`).digest(),
  };
}

function launchOf(record: ImageRecord, machine: SnpMachine, vcpus: number): SnpLaunch {
  const cpuSignature = CPU_SIGNATURES[machine.cpuModel];
  if (cpuSignature === undefined) {
    throw new SealError(
      "SHAPE_UNSUPPORTED",
      "usage",
      `no predictions for the CPU model ${machine.cpuModel}`,
      {
        hint: `use one of: ${Object.keys(CPU_SIGNATURES).join(", ")}`,
      },
    );
  }
  const firmware = readOvmf(machine.firmware);
  return {
    firmware,
    firmwareDigest: snpFirmwareDigest(firmware),
    vcpus,
    vmm: machine.vmm ?? "qemu",
    cpuSignature,
    guestFeatures: machine.guestFeatures ?? 1n,
    ...(machine.kernelHashes === false ? {} : { kernel: imageHashes(record) }),
  };
}

/** Predicts the launch digests of a sealed image for 1 to `vcpus` vCPUs. */
export function predictSnp(record: ImageRecord, machine: SnpMachine, vcpus: number): SnpPrediction {
  const launch = launchOf(record, machine, vcpus);
  const { kernel } = launch;
  return {
    platform: "snp",
    cpuModel: machine.cpuModel,
    vmm: launch.vmm,
    guestFeatures: `0x${launch.guestFeatures.toString(16)}`,
    measurements: [...snpLaunchDigests(launch)].map(toHex),
    components: {
      firmware: toHex(launch.firmwareDigest ?? snpFirmwareDigest(launch.firmware)),
      ...(kernel === undefined
        ? {}
        : { kernel: toHex(kernel.kernel), initrd: toHex(kernel.initrd), cmdline: toHex(kernel.cmdline) }),
    },
  };
}

/** Something a digest may have come from instead: another image, another firmware. */
export interface SnpKnown {
  readonly images?: readonly { readonly name: string; readonly record: ImageRecord }[];
  readonly firmwares?: readonly { readonly name: string; readonly data: Uint8Array }[];
}

/**
 * Why a report's MEASUREMENT is not the one predicted for this image and this many vCPUs, as far as
 * what is known can tell; an empty list when it is, undefined when nothing known explains it.
 */
export function diffSnp(
  record: ImageRecord,
  machine: SnpMachine,
  vcpus: number,
  measured: Uint8Array,
  known: SnpKnown = {},
): readonly SnpDifference[] | undefined {
  const others = (known.images ?? []).map(({ name, record: other }) => ({
    name,
    hashes: imageHashes(other),
  }));
  const part = (member: keyof KernelHashes): { name: string; hash: Uint8Array }[] =>
    others.map(({ name, hashes }) => ({ name: `that of ${name}`, hash: hashes[member] }));
  return explainSnp(launchOf(record, machine, vcpus), measured, {
    kernels: part("kernel"),
    initrds: part("initrd"),
    cmdlines: part("cmdline"),
    firmwares: known.firmwares ?? [],
    cpuModels: CPU_SIGNATURES,
  });
}
