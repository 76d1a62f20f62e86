import {
  EVENT,
  type EventLog,
  explainLog,
  type NamedFile,
  parseCsvEvidence,
  parseEventLog,
  parsePcrBanks,
  parseQuote,
  parseSnpReport,
  parseTpmEvidence,
  pcrMeaning,
  type RoleFiles,
  replay,
  replayRtmrs,
  sortEvidence,
  type TdReport,
} from "@shelter/attest";
import { fromHex, type JsonObject, parseJson, ShelterError, sameBytes, toHex } from "@shelter/base";
import {
  csvLaunchDigest,
  diffSnp,
  explainTdx,
  type ImageRecord,
  imageHashes,
  type LaunchMeasurement,
  type Measurement,
  type MeasureRequest,
  type PredictedEvent,
  readOvmf,
  type TdxMeasurement,
  type VtpmMeasurement,
  vtpmMachine,
} from "@shelter/seal";

/** A component that evidence shows to be other than predicted. */
export interface Difference {
  readonly component: string;
  readonly predicted: string;
  readonly measured: string;
}

/** What a prediction is compared with the help of. */
export interface DiffRequest {
  readonly request: MeasureRequest;
  readonly record: ImageRecord;
  /** Contents of the firmware's file; `vtpm` does without. */
  readonly firmware: Uint8Array | undefined;
  readonly evidence: readonly NamedFile[];
  /** Other images, whose parts may be what was booted. */
  readonly images: readonly { readonly name: string; readonly record: ImageRecord }[];
}

/** How many vCPUs are tried to explain a measurement. */
const MAX_VCPUS = 64;
const UNKNOWN = "nothing that is known leads there";

function evidenceError(message: string, hint?: string): ShelterError {
  return new ShelterError("EVIDENCE_UNKNOWN", "malformed", message, hint === undefined ? {} : { hint });
}

/** Which components differ between a prediction and evidence. It explains; whether evidence is genuine `attest` says. */
export async function differences(
  measurement: Measurement,
  request: DiffRequest,
): Promise<readonly Difference[]> {
  const platform = measurement.platform === "vtpm" ? "tpm" : measurement.platform;
  const { files } = sortEvidence(request.evidence, platform);
  switch (measurement.platform) {
    case "vtpm":
      return await vtpmDifferences(measurement, files, request);
    case "snp":
      return snpDifferences(measurement, files, request);
    case "csv":
      return csvDifferences(measurement, files, request);
    case "tdx":
      return tdxDifferences(measurement, files);
    default:
      return measurement satisfies never;
  }
}

interface TpmState {
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  readonly log: EventLog | undefined;
}

function tpmState(files: RoleFiles): TpmState {
  const { evidence_json: json, event_log: rawLog, pcrs: rawPcrs } = files;
  if (json !== undefined) {
    const evidence = parseTpmEvidence(parseJson(new TextDecoder().decode(json), "evidence"));
    return { pcrs: evidence.pcrs?.get("sha256") ?? new Map(), log: evidence.eventLog };
  }
  const log = rawLog === undefined ? undefined : parseEventLog(rawLog);
  const given = rawPcrs && parsePcrBanks(parseJson(new TextDecoder().decode(rawPcrs), "pcrs")).get("sha256");
  if (log === undefined && given === undefined) {
    throw evidenceError("the evidence has neither an event log nor PCR values");
  }
  return { pcrs: given ?? new Map(), log };
}

async function vtpmDifferences(
  measurement: VtpmMeasurement,
  files: RoleFiles,
  { request }: DiffRequest,
): Promise<readonly Difference[]> {
  const { pcrs, log } = tpmState(files);
  if (log !== undefined && !log.banks.includes("sha256")) {
    throw evidenceError("the event log has no SHA-256 digests");
  }
  const predicted = new Map(Object.entries(measurement.pcrs).map(([pcr, hex]) => [Number(pcr), hex]));
  const held = log === undefined ? pcrs : replay(log, "sha256");
  for (const [pcr, value] of log === undefined ? [] : pcrs) {
    const replayed = held.get(pcr);
    if (replayed !== undefined && predicted.has(pcr) && !sameBytes(replayed, value)) {
      throw evidenceError(`the event log does not replay to the quoted PCR ${pcr}: it explains nothing`);
    }
  }
  if (log === undefined) {
    return [...predicted].flatMap(([pcr, hex]) => {
      const value = toHex(held.get(pcr) ?? new Uint8Array(32));
      return value === hex ? [] : [{ component: registerOf(pcr), predicted: hex, measured: value }];
    });
  }
  const found: Difference[] = [];
  const measured = explainLog(log).flatMap((explained) => {
    const digest = explained.event.digests.get("sha256");
    const counted = explained.event.type !== EVENT.NO_ACTION && digest !== undefined;
    return counted ? [{ pcr: explained.event.pcr, digest: toHex(digest), line: explained.text }] : [];
  });
  for (const pcr of predicted.keys()) {
    const now = measured.filter((e) => e.pcr === pcr);
    const expected = measurement.events.filter((e) => e.pcr === pcr);
    for (const [i, event] of expected.entries()) {
      const actual = now[i];
      if (actual?.digest === event.digest) continue;
      const difference =
        event.component === "machine" && actual !== undefined
          ? await machineDifference(event, actual.digest, request)
          : plain(event, actual);
      if (difference !== undefined) found.push(difference);
    }
    for (const extra of now.slice(expected.length)) {
      found.push({ component: pcrMeaning(pcr), predicted: "nothing more", measured: extra.line });
    }
  }
  return found;
}

function registerOf(pcr: number): string {
  const held: Readonly<Record<number, string>> = {
    0: "firmware, vCPUs or memory",
    4: "kernel, or the initrd's size",
    9: "initrd or command line",
  };
  return `${held[pcr] ?? pcrMeaning(pcr)} (PCR ${pcr})`;
}

function plain(
  event: PredictedEvent,
  actual: { readonly digest: string; readonly line: string } | undefined,
): Difference {
  return {
    component: event.component,
    predicted: `${event.description} (${event.digest})`,
    measured: actual === undefined ? "nothing" : `${actual.line} (${actual.digest})`,
  };
}

/** The firmware's own memory shows the vCPUs; another make of processor is no difference. */
async function machineDifference(
  event: PredictedEvent,
  digest: string,
  { firmware, memory, cpus }: MeasureRequest,
): Promise<Difference | undefined> {
  const machine = await vtpmMachine(firmware, memory, MAX_VCPUS, digest);
  if (machine?.cpus === cpus) return undefined;
  if (machine !== undefined) {
    return { component: "vCPUs", predicted: String(cpus), measured: String(machine.cpus) };
  }
  return { component: "firmware or memory", predicted: event.digest, measured: digest };
}

function bytesOf(files: RoleFiles, role: string): Uint8Array {
  const bytes = files[role];
  if (bytes === undefined) throw evidenceError(`the evidence has no ${role}`);
  return bytes;
}

function snpDifferences(
  { launches, shape }: LaunchMeasurement,
  files: RoleFiles,
  { record, request, firmware, images }: DiffRequest,
): readonly Difference[] {
  const measured = parseSnpReport(bytesOf(files, "report")).measurement;
  const hex = toHex(measured);
  if (launches.some((l) => l.kernelHashes && l.measurement === hex)) return [];
  const asked = request.cpuModels;
  let best: readonly Difference[] | undefined;
  for (const [cpuModel] of launches.filter((l) => l.kernelHashes).map((l) => l.cpuModels)) {
    if (cpuModel === undefined || firmware === undefined) continue;
    const all = diffSnp(record, { firmware, cpuModel }, shape.cpus, measured, { images });
    // Unless it was asked for, any CPU model is as predicted.
    const found = asked === undefined ? all?.filter((d) => d.component !== "cpu model") : all;
    if (found !== undefined && (best === undefined || found.length < best.length)) best = found;
  }
  return best ?? [unknown(launches[0]?.measurement, hex)];
}

function unknown(predicted: string | undefined, measured: string): Difference {
  return {
    component: "firmware, kernel, initrd or command line",
    predicted: predicted ?? "nothing",
    measured: `${measured}: ${UNKNOWN}`,
  };
}

function csvDifferences(
  { launches, shape }: LaunchMeasurement,
  files: RoleFiles,
  { record, firmware, images }: DiffRequest,
): readonly Difference[] {
  const { report } = parseCsvEvidence(files["evidence_json"] ?? bytesOf(files, "report"));
  const hex = toHex(report.measure);
  if (launches.some((l) => l.kernelHashes && l.measurement === hex)) return [];
  if (launches.some((l) => l.measurement === hex)) {
    return [{ component: "kernel hashes", predicted: "present", measured: "absent" }];
  }
  if (firmware === undefined) return [unknown(launches[0]?.measurement, hex)];
  const ovmf = readOvmf(firmware);
  const kernel = imageHashes(record);
  const digest = (change: Partial<typeof kernel>, policy: number, vcpus: number): string =>
    toHex(csvLaunchDigest({ firmware: ovmf, policy, vcpus, kernel: { ...kernel, ...change } }));
  for (let vcpus = 1; vcpus <= MAX_VCPUS; vcpus++) {
    if (digest({}, 4, vcpus) !== hex) continue;
    return [{ component: "vcpus", predicted: String(shape.cpus), measured: String(vcpus) }];
  }
  for (const { name, record: other } of images) {
    const hashes = imageHashes(other);
    for (const part of ["kernel", "initrd", "cmdline"] as const) {
      const change = { [part]: hashes[part] };
      if (digest(change, 0, shape.cpus) !== hex && digest(change, 4, shape.cpus) !== hex) continue;
      const component = part === "cmdline" ? "command line" : part;
      return [{ component, predicted: toHex(kernel[part]), measured: `that of ${name}` }];
    }
  }
  return [unknown(launches[0]?.measurement, hex)];
}

function tdxDifferences(measurement: TdxMeasurement, files: RoleFiles): readonly Difference[] {
  const { body } = parseQuote(bytesOf(files, "quote"));
  if (body.kind === "sgx") throw evidenceError("the quote is of an SGX enclave");
  const { report } = body;
  const { mrtd, rtmrs, events } = measurement;
  const found: Difference[] = [];
  const mrTd = toHex(report.mrTd);
  if (mrTd !== mrtd.pageByPage && mrTd !== mrtd.sectionBySection) {
    found.push({ component: "firmware", predicted: mrtd.pageByPage, measured: mrTd });
  }
  const log = files["ccel"] ?? files["event_log"];
  if (log !== undefined) {
    const explained = explainTdx(events, tdxLog(log, report));
    found.push(
      ...explained.map(({ component, description, predicted, measured }) => ({
        component,
        predicted: `${description} (${predicted})`,
        measured: measured ?? "nothing",
      })),
    );
    return found;
  }
  const held: Readonly<Record<string, string>> = {
    0: "firmware's variables, memory or the machine's ACPI tables",
    1: "kernel, the initrd's size or memory",
    2: "initrd or command line",
  };
  for (const [rtmr, what] of Object.entries(held)) {
    const predicted = rtmrs[rtmr];
    const measured = toHex(report.rtmrs[Number(rtmr)] ?? new Uint8Array(48));
    if (predicted === undefined || predicted === measured) continue;
    found.push({ component: `${what} (RTMR${rtmr})`, predicted, measured });
  }
  return found;
}

/** Events of a log that replays to the quote's registers, in either of its forms. */
function tdxLog(log: Uint8Array, report: TdReport): readonly { rtmr: number; digest: Uint8Array }[] {
  const replayed = replayRtmrs(log);
  for (const [i, value] of replayed.rtmrs.entries()) {
    if (!replayed.silent.has(i) && !sameBytes(value, report.rtmrs[i] ?? new Uint8Array(48))) {
      throw evidenceError(`the event log does not replay to the quoted RTMR${i}: it explains nothing`);
    }
  }
  if (log.find((b) => b > 0x20) === 0x5b) {
    // Its form was checked by the replay.
    const list = parseJson(new TextDecoder().decode(log), "event log") as readonly JsonObject[];
    return list.map((e) => ({ rtmr: Number(e["imr"]), digest: fromHex(String(e["digest"])) }));
  }
  return parseEventLog(log).events.flatMap(({ pcr, type, digests }) => {
    const digest = digests.get("sha384");
    return type === EVENT.NO_ACTION || digest === undefined ? [] : [{ rtmr: pcr - 1, digest }];
  });
}
