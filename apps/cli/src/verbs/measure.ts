import { stateDirectory } from "@shelter/base";
import { ImageStore, type MeasuredPlatform, measure as predict, referenceValues } from "@shelter/seal";
import { printJson, size, styled, table } from "../terminal.ts";

interface MeasureOptions {
  readonly platform: MeasuredPlatform | "none";
  readonly memory: readonly number[];
  readonly cpus: readonly number[];
  readonly firmware?: string;
  readonly reference?: boolean;
  readonly workload?: string;
  readonly json?: boolean;
}

/** `shelter measure`: every given shape, or the manifest's own. */
export async function measure(name: string, options: MeasureOptions): Promise<void> {
  const image = new ImageStore(stateDirectory()).inspect(name);
  const { resources } = image.manifest;
  const memories = options.memory.length > 0 ? options.memory : [resources.memory];
  const counts = options.cpus.length > 0 ? options.cpus : [resources.cpus];
  const shapes = memories.flatMap((memory) => counts.map((cpus) => ({ cpus, memory })));
  const common = {
    imageDirectory: image.directory,
    platform: options.platform as MeasuredPlatform,
    ...(options.firmware === undefined ? {} : { firmware: options.firmware }),
  };
  if (options.reference === true) {
    const workload = options.workload ?? workloadOf(name, image.names);
    printJson(await referenceValues(workload, common, shapes));
    return;
  }
  const measurements = [];
  for (const shape of shapes) measurements.push(await predict({ ...common, ...shape }));
  if (options.json === true) {
    printJson(measurements);
    return;
  }
  for (const { platform, shape, pcrs, events } of measurements) {
    const head = `${platform}, ${shape.cpus} CPU${shape.cpus === 1 ? "" : "s"}, ${size(shape.memory)}`;
    process.stdout.write(`${styled("bold", head)}\n`);
    const rows = events.map((e) => [String(e.pcr), e.type, `${e.digest.slice(0, 16)}…`, e.description]);
    process.stdout.write(`${table(["PCR", "EVENT", "SHA-256", "WHAT"], rows)}\n`);
    const registers = Object.entries(pcrs).map(([pcr, value]) => [pcr, value]);
    process.stdout.write(`${table(["PCR", "VALUE"], registers)}\n`);
  }
}

/** The name it was asked for by, without its tag; an identity takes the image's first name. */
function workloadOf(asked: string, names: readonly string[]): string {
  const full = names.find((n) => n === asked || n === `${asked}:latest`) ?? names[0] ?? asked;
  return full.slice(0, full.includes(":") ? full.lastIndexOf(":") : undefined);
}
