import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ShelterError, stateDirectory } from "@shelter/base";
import {
  corim,
  ImageStore,
  type LaunchMeasurement,
  type MeasuredPlatform,
  type Measurement,
  type MeasureRequest,
  PROCESSORS,
  measure as predict,
  type ReferenceValues,
  referenceValues,
  rvpsMessage,
  type SealedImage,
  type TdxMeasurement,
  type VtpmMeasurement,
} from "@shelter/seal";
import { printable, printJson, size, styled, table } from "../terminal.ts";
import type { Difference } from "./measure-diff.ts";

interface MeasureOptions {
  readonly platform: MeasuredPlatform | "none";
  readonly memory: readonly number[];
  readonly cpus: readonly number[];
  readonly cpuModel: readonly string[];
  readonly firmware?: string;
  readonly acpi?: string;
  readonly reference?: boolean;
  readonly format: "shelter" | "rvps" | "corim";
  readonly workload?: string;
  readonly diff: readonly string[];
  readonly json?: boolean;
}

/** `shelter measure`: every given shape, or the manifest's own. */
export async function measure(name: string, options: MeasureOptions): Promise<void> {
  const { platform, firmware, cpuModel, acpi } = options;
  if (platform === "none") {
    throw new ShelterError("MEASURE_OPTION", "usage", "a guest of the platform none is measured by nobody");
  }
  const store = new ImageStore(stateDirectory());
  const image = store.inspect(name);
  const { resources } = image.manifest;
  const memories = options.memory.length > 0 ? options.memory : [resources.memory];
  const counts = options.cpus.length > 0 ? options.cpus : [resources.cpus];
  const shapes = memories.flatMap((memory) => counts.map((cpus) => ({ cpus, memory })));
  const common = {
    imageDirectory: image.directory,
    platform,
    ...(firmware === undefined ? {} : { firmware }),
    ...(cpuModel.length === 0 ? {} : { cpuModels: cpuModel }),
    ...(acpi === undefined ? {} : { acpi: acpiFiles(acpi) }),
  };
  if (options.reference === true) {
    const workload = options.workload ?? workloadOf(name, image.names);
    writeReference(await referenceValues(workload, common, shapes), options.format);
    return;
  }
  const measurements: Measurement[] = [];
  // Evidence shows which processor its host had; without any, the likelier one is told.
  const processors = platform === "vtpm" && options.diff.length > 0 ? PROCESSORS : [undefined];
  for (const shape of shapes) {
    for (const processor of processors) measurements.push(await predict({ ...common, ...shape, processor }));
  }
  if (options.diff.length > 0) {
    await printDifferences(measurements, common, store.images(), image, options);
    return;
  }
  if (options.json === true) printJson(measurements);
  else for (const measurement of measurements) print(measurement);
}

/** A CoRIM is binary, for a pipe or a file. */
function writeReference(reference: ReferenceValues, format: MeasureOptions["format"]): void {
  switch (format) {
    case "shelter":
      printJson(reference);
      break;
    case "rvps":
      printJson(rvpsMessage(reference));
      break;
    case "corim":
      process.stdout.write(corim(reference));
      break;
    default:
      format satisfies never;
  }
}

/** Exit status when evidence is not as predicted, as for anything refused. */
const DIFFERENT = 77;

/** Against the nearest of the predictions: being as one of them is being as predicted. */
async function printDifferences(
  measurements: readonly Measurement[],
  common: Omit<MeasureRequest, "cpus" | "memory">,
  images: readonly SealedImage[],
  image: SealedImage,
  options: MeasureOptions,
): Promise<void> {
  const { differences } = await import("./measure-diff.ts");
  const { evidenceFile } = await import("./attest.ts");
  const evidence = options.diff.map(evidenceFile);
  // A vtpm guest's firmware is read where it is unpacked.
  const file = common.platform === "vtpm" ? undefined : common.firmware;
  const firmware = file === undefined ? undefined : new Uint8Array(readFileSync(file));
  const others = images.filter((i) => i.identity !== image.identity);
  let nearest: { measurement: Measurement; found: readonly Difference[] } | undefined;
  for (const measurement of measurements) {
    const found = await differences(measurement, {
      request: { ...common, ...measurement.shape },
      record: image.record,
      firmware,
      evidence,
      images: others.map(({ names, identity, record }) => ({ name: names[0] ?? identity, record })),
    });
    if (nearest === undefined || found.length < nearest.found.length) {
      nearest = { measurement, found };
    }
  }
  if (nearest === undefined) return;
  const { measurement, found } = nearest;
  const { platform, shape } = measurement;
  const equal = found.length === 0;
  if (!equal) process.exitCode = DIFFERENT;
  if (options.json === true) printJson({ platform, shape, equal, differences: found });
  else if (equal) {
    const open = measurement.platform === "tdx" && measurement.rtmrs["0"] === undefined;
    process.stdout.write(
      `as predicted${open ? "; the machine's ACPI tables in RTMR0 were not compared" : ""}\n`,
    );
  } else {
    const rows = found.map((d) => [d.component, printable(d.predicted), printable(d.measured)]);
    process.stdout.write(`${table(["DIFFERS", "PREDICTED", "MEASURED"], rows)}\n`);
  }
}

function acpiFiles(directory: string): NonNullable<MeasureRequest["acpi"]> {
  const read = (file: string): Uint8Array => {
    try {
      return new Uint8Array(readFileSync(join(directory, file)));
    } catch (cause) {
      throw new ShelterError("MEASURE_OPTION", "usage", `cannot read ${join(directory, file)}`, {
        cause,
        hint: "the directory holds QEMU's fw_cfg files as table-loader, rsdp and tables",
      });
    }
  };
  return { loader: read("table-loader"), rsdp: read("rsdp"), tables: read("tables") };
}

function print(measurement: Measurement): void {
  const { platform, shape } = measurement;
  const head = `${platform}, ${shape.cpus} CPU${shape.cpus === 1 ? "" : "s"}, ${size(shape.memory)}`;
  process.stdout.write(`${styled("bold", head)}\n`);
  switch (measurement.platform) {
    case "vtpm":
      printVtpm(measurement);
      break;
    case "snp":
    case "csv":
      printLaunches(measurement);
      break;
    case "tdx":
      printTdx(measurement);
      break;
    default:
      measurement satisfies never;
  }
}

function printVtpm({ pcrs, events }: VtpmMeasurement): void {
  const rows = events.map((e) => [String(e.pcr), e.type, `${e.digest.slice(0, 16)}…`, e.description]);
  process.stdout.write(`${table(["PCR", "EVENT", "SHA-256", "WHAT"], rows)}\n`);
  process.stdout.write(`${table(["PCR", "VALUE"], Object.entries(pcrs))}\n`);
}

function printLaunches({ platform, launches, components }: LaunchMeasurement): void {
  const { firmware, kernel, initrd, cmdline } = components;
  const parts = Object.entries({ firmware, kernel, initrd, "command line": cmdline });
  process.stdout.write(`${table(["MADE OF", "DIGEST"], parts)}\n`);
  const rows = launches.map((l) => [
    l.measurement,
    l.kernelHashes ? "yes" : "no",
    [l.generation, l.cpuModels.join(" ")].filter((part) => part !== undefined && part !== "").join(" "),
  ]);
  process.stdout.write(`${table(["MEASUREMENT", "KERNEL HASHES", "LAUNCHED AS"], rows)}\n`);
  if (!launches.some((l) => l.kernelHashes)) {
    process.stdout.write(
      "this firmware does not check kernel hashes: the digest says nothing of the image\n",
    );
  }
  if (platform === "csv") {
    process.stdout.write("Hygon publishes no specification of the digest: compare with a first report\n");
  }
}

function printTdx({ mrtd, rtmrs, events }: TdxMeasurement): void {
  const rows = events.map((e) => [String(e.rtmr), e.type, `${e.digest.slice(0, 16)}…`, e.description]);
  process.stdout.write(`${table(["RTMR", "EVENT", "SHA-384", "WHAT"], rows)}\n`);
  const registers = [
    ["MRTD", mrtd.pageByPage, "QEMU since 9.1: page by page"],
    ["MRTD", mrtd.sectionBySection, "earlier: section by section"],
    ...Object.entries(rtmrs).map(([n, value]) => [`RTMR${n}`, value, n === "3" ? "the guest's own" : ""]),
  ];
  process.stdout.write(`${table(["REGISTER", "VALUE", ""], registers)}\n`);
  if (rtmrs["0"] === undefined) {
    process.stdout.write("RTMR0 depends on the machine's ACPI tables: give them with --acpi DIR\n");
  }
}

/** The name it was asked for by, without its tag; an identity takes the image's first name. */
function workloadOf(asked: string, names: readonly string[]): string {
  const full = names.find((n) => n === asked || n === `${asked}:latest`) ?? names[0] ?? asked;
  return full.slice(0, full.includes(":") ? full.lastIndexOf(":") : undefined);
}
