import { createHash } from "node:crypto";
import { toHex } from "@shelter/base";
import { SealError } from "../errors.ts";
import type { ImageRecord } from "../sealed.ts";
import { csvLaunchDigest } from "./csv.ts";
import type { Launch, LaunchMeasurement, MachineShape } from "./measurement.ts";
import { readOvmf } from "./ovmf-sev.ts";
import { sevChecksKernel, snpChecksKernel, snpFirmwareDigest, snpLaunchDigest } from "./snp.ts";
import { imageHashes } from "./snp-image.ts";
import { CPU_SIGNATURES } from "./snp-vmsa.ts";

/** Policies that tell apart what a CSV launch measures: the ES bit adds the processors. */
const CSV_POLICIES = [
  ["CSV", 0],
  ["CSV2", 1 << 2],
] as const;

/** QEMU's models by CPUID signature, which is all of a model that is measured. */
function signatures(models: readonly string[]): Map<number, string[]> {
  const found = new Map<number, string[]>();
  for (const model of models) {
    const signature = CPU_SIGNATURES[model];
    if (signature === undefined) {
      throw new SealError("SHAPE_UNSUPPORTED", "usage", `no predictions for the CPU model ${model}`, {
        hint: `use one of: ${Object.keys(CPU_SIGNATURES).join(", ")}`,
      });
    }
    found.set(signature, [...(found.get(signature) ?? []), model]);
  }
  return found;
}

/** The launch digests of a sealed image under QEMU, for every given CPU model. */
export function measureSnp(
  record: ImageRecord,
  firmware: Uint8Array,
  shape: MachineShape,
  models: readonly string[] = Object.keys(CPU_SIGNATURES),
): LaunchMeasurement {
  const ovmf = readOvmf(firmware);
  const kernel = imageHashes(record);
  const firmwareDigest = snpFirmwareDigest(ovmf);
  const launches: Launch[] = [];
  for (const kernelHashes of snpChecksKernel(ovmf) ? [true, false] : [false]) {
    for (const [cpuSignature, cpuModels] of signatures(models)) {
      const digest = snpLaunchDigest({
        firmware: ovmf,
        firmwareDigest,
        vcpus: shape.cpus,
        vmm: "qemu",
        cpuSignature,
        guestFeatures: 1n,
        ...(kernelHashes ? { kernel } : {}),
      });
      launches.push({ cpuModels, kernelHashes, measurement: toHex(digest) });
    }
  }
  const components = { firmware: toHex(firmwareDigest), ...hexed(kernel) };
  return { platform: "snp", shape, launches, components };
}

/** The launch digests of a sealed image as a Hygon CSV and CSV2 guest; `CsvLaunch` says how sure they are. */
export function measureCsv(
  record: ImageRecord,
  firmware: Uint8Array,
  shape: MachineShape,
): LaunchMeasurement {
  const ovmf = readOvmf(firmware);
  const kernel = imageHashes(record);
  const launches: Launch[] = [];
  for (const kernelHashes of sevChecksKernel(ovmf) ? [true, false] : [false]) {
    for (const [generation, policy] of CSV_POLICIES) {
      const digest = csvLaunchDigest({
        firmware: ovmf,
        policy,
        vcpus: shape.cpus,
        ...(kernelHashes ? { kernel } : {}),
      });
      const cpuModels = generation === "CSV2" ? ["Dhyana"] : [];
      launches.push({ cpuModels, generation, kernelHashes, measurement: toHex(digest) });
    }
  }
  const components = { firmware: createHash("sm3").update(firmware).digest("hex"), ...hexed(kernel) };
  return { platform: "csv", shape, launches, components };
}

function hexed(hashes: {
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly cmdline: Uint8Array;
}): {
  kernel: string;
  initrd: string;
  cmdline: string;
} {
  return { kernel: toHex(hashes.kernel), initrd: toHex(hashes.initrd), cmdline: toHex(hashes.cmdline) };
}
