import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { SealError } from "../errors.ts";
import { readRecord } from "../store/store.ts";
import { measureCsv, measureSnp } from "./launch.ts";
import type {
  MachineShape,
  MeasuredPlatform,
  Measurement,
  MeasureRequest,
  ReferenceValue,
  ReferenceValues,
  TdxMeasurement,
  VtpmMeasurement,
} from "./measurement.ts";
import { noKernelHashes } from "./snp.ts";
import { predictTdx } from "./tdx-image.ts";
import { measureVtpm, PROCESSORS } from "./vtpm.ts";

/** Predicts what a platform will report of booting this image on this machine. */
export async function measure(
  request: MeasureRequest & { readonly platform: "vtpm" },
): Promise<VtpmMeasurement>;
export async function measure(request: MeasureRequest): Promise<Measurement>;
export async function measure(request: MeasureRequest): Promise<Measurement> {
  const { platform, imageDirectory } = request;
  const shape = { cpus: request.cpus, memory: request.memory };
  switch (platform) {
    case "vtpm":
      return await measureVtpm(request);
    case "snp":
      return measureSnp(readRecord(imageDirectory), readFirmwareFile(request), shape, request.cpuModels);
    case "tdx":
      return measureTdx(request, shape);
    case "csv":
      return measureCsv(readRecord(imageDirectory), readFirmwareFile(request), shape);
    default:
      return platform satisfies never;
  }
}

const MAX_FIRMWARE_SIZE = 64 * 2 ** 20;

/** Which firmware a platform's guests start from; no host has one in a fixed place. */
const FIRMWARE_HINT: Readonly<Record<Exclude<MeasuredPlatform, "vtpm">, string>> = {
  snp: "name with --firmware the OVMF the guest starts from, built from OvmfPkg/AmdSev so that it checks the kernel",
  csv: "name with --firmware the OVMF the guest starts from, built from OvmfPkg/AmdSev so that it checks the kernel",
  tdx: "name with --firmware the OVMF the guest starts from, built with TDX metadata (OvmfPkg/IntelTdx or OvmfPkgX64)",
};

function readFirmwareFile({ platform, firmware }: MeasureRequest): Uint8Array {
  if (firmware === undefined) {
    const hint = platform === "vtpm" ? undefined : FIRMWARE_HINT[platform];
    throw new SealError(
      "FIRMWARE_MISSING",
      "usage",
      `a prediction for ${platform} needs the firmware's file`,
      hint === undefined ? {} : { hint },
    );
  }
  const stat = statSync(firmware, { throwIfNoEntry: false });
  if (stat === undefined)
    throw new SealError("FIRMWARE_MISSING", "usage", `there is no firmware ${firmware}`);
  if (!stat.isFile()) throw new SealError("FIRMWARE_MISSING", "usage", `${firmware} is not a file`);
  const { size } = stat;
  if (size > MAX_FIRMWARE_SIZE) {
    throw new SealError(
      "FIRMWARE_MALFORMED",
      "malformed",
      `${firmware} has ${size} bytes, more than firmware`,
    );
  }
  try {
    return new Uint8Array(readFileSync(firmware));
  } catch (cause) {
    throw new SealError("FIRMWARE_MISSING", "usage", `cannot read ${firmware}`, { cause });
  }
}

function measureTdx(request: MeasureRequest, shape: MachineShape): TdxMeasurement {
  const { imageDirectory, memory, acpi } = request;
  const { cmdline } = readRecord(imageDirectory);
  const { mrtd, registers, events } = predictTdx(
    {
      kernel: readFileSync(join(imageDirectory, "kernel")),
      initrd: readFileSync(join(imageDirectory, "initrd")),
      cmdline,
    },
    { firmware: readFirmwareFile(request), memory, ...(acpi === undefined ? {} : { acpi }) },
  );
  const { rtmr0, rtmr1, rtmr2, rtmr3 } = registers;
  const rtmrs = { ...(rtmr0 === undefined ? {} : { 0: rtmr0 }), 1: rtmr1, 2: rtmr2, 3: rtmr3 };
  return { platform: "tdx", shape, mrtd, rtmrs, events };
}

/** Characters of a description that a broker takes. */
const MAX_WHAT = 1024;

/**
 * What a verifier needs to recognise this image on machines of these shapes: any one of a shape's values is right. A
 * `vtpm` guest has one for each processor the host may have, unless one is asked for.
 */
export async function referenceValues(
  workload: string,
  request: Omit<MeasureRequest, "cpus" | "memory">,
  shapes: readonly MachineShape[],
): Promise<ReferenceValues> {
  const { identity } = readRecord(request.imageDirectory);
  const values: ReferenceValue[] = [];
  const processors =
    request.processor === undefined && request.platform === "vtpm" ? PROCESSORS : [request.processor];
  for (const shape of shapes) {
    for (const processor of processors) {
      values.push(...valuesOf(await measure({ ...request, ...shape, processor })));
    }
  }
  return { version: 1, workload, image: identity, values };
}

function valuesOf(measurement: Measurement): readonly ReferenceValue[] {
  const { shape } = measurement;
  switch (measurement.platform) {
    case "vtpm": {
      const { platform, pcrs } = measurement;
      const events = measurement.events.map(({ pcr, digest, description }) => ({
        pcr,
        digest,
        what: description.slice(0, MAX_WHAT),
      }));
      return [{ platform, shape, pcrs, events }];
    }
    case "snp":
    case "csv": {
      const { platform } = measurement;
      // A launch without them is the same for every image: it vouches for none.
      const launches = measurement.launches.filter((l) => l.kernelHashes);
      if (launches.length === 0) throw noKernelHashes();
      return launches.map(({ cpuModels, measurement: digest }) => ({
        platform,
        shape,
        cpuModels,
        measurement: digest,
      }));
    }
    case "tdx": {
      const { platform, mrtd, rtmrs } = measurement;
      // RTMR3 is the guest's own to extend.
      const { 3: _, ...known } = rtmrs;
      return [...new Set([mrtd.pageByPage, mrtd.sectionBySection])].map((value) => ({
        platform,
        shape,
        mrtd: value,
        rtmrs: known,
      }));
    }
    default:
      return measurement satisfies never;
  }
}
