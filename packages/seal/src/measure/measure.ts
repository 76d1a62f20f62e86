import { SealError } from "../errors.ts";
import { readRecord } from "../store/store.ts";
import type { MachineShape, Measurement, MeasureRequest, ReferenceValues } from "./measurement.ts";
import { measureVtpm, PROCESSORS } from "./vtpm.ts";

/** Predicts what a platform will report of booting this image on this machine. */
export async function measure(request: MeasureRequest): Promise<Measurement> {
  switch (request.platform) {
    case "vtpm":
      return await measureVtpm(request);
    case "snp":
    case "tdx":
    case "csv":
      throw new SealError(
        "PLATFORM_UNSUPPORTED",
        "unavailable",
        `no predictions for the platform ${request.platform}`,
        {
          hint: "predictions exist for: vtpm",
        },
      );
    default:
      return request.platform satisfies never;
  }
}

/** Characters of a description that a broker takes. */
const MAX_WHAT = 1024;

/**
 * What a broker needs to recognise this image on machines of these shapes: any one of a shape's values is right. A
 * `vtpm` guest has one for each processor the host may have, unless one is asked for.
 */
export async function referenceValues(
  workload: string,
  request: Omit<MeasureRequest, "cpus" | "memory">,
  shapes: readonly MachineShape[],
): Promise<ReferenceValues> {
  const { identity } = readRecord(request.imageDirectory);
  const values: ReferenceValues["values"][number][] = [];
  const processors =
    request.processor === undefined && request.platform === "vtpm" ? PROCESSORS : [request.processor];
  for (const shape of shapes) {
    for (const processor of processors) {
      const { platform, pcrs, events } = await measure({ ...request, ...shape, processor });
      values.push({
        platform,
        shape,
        pcrs,
        events: events.map(({ pcr, digest, description }) => ({
          pcr,
          digest,
          what: description.slice(0, MAX_WHAT),
        })),
      });
    }
  }
  return { version: 1, workload, image: identity, values };
}
