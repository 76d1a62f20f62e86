import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  CborTag,
  type CborValue,
  decodeCbor,
  EVENT,
  isMap,
  parseEventLog,
  parseQuote,
  replay,
} from "@shelter/attest";
import { type Digest, digestOf, toHex } from "@shelter/base";
import {
  corim,
  type ImageRecord,
  type Measurement,
  type PredictedEvent,
  predictSnp,
  type ReferenceValues,
  type TdxEvent,
} from "@shelter/seal";
import { type DiffRequest, differences } from "../src/verbs/measure-diff.ts";

const EVIDENCE = join(import.meta.dirname, "../../../../shared/evidence");
const skip = existsSync(EVIDENCE) ? false : `no evidence corpus at ${EVIDENCE}`;
const read = (...path: string[]): Uint8Array => new Uint8Array(readFileSync(join(EVIDENCE, ...path)));
const shape = { cpus: 2, memory: 2 ** 28 };

function record(kernel: string, initrd: string, cmdline: string): ImageRecord {
  const file = (text: string): { digest: Digest; size: number } => ({
    digest: digestOf(Buffer.from(text)),
    size: text.length,
  });
  return {
    version: 1,
    identity: digestOf(Buffer.from(`${kernel} ${initrd} ${cmdline}`)),
    shape: "initrd",
    cmdline,
    created: null,
    files: { kernel: file(kernel), initrd: file(initrd) },
    source: { kind: "directory" },
    guest: { kernelVersion: "6.1", agent: digestOf(Buffer.from("agent")) },
  };
}

const image = record("kernel", "initrd", "quiet");

function request(
  platform: Measurement["platform"],
  evidence: DiffRequest["evidence"],
  more: Partial<DiffRequest> = {},
): DiffRequest {
  const machine = { imageDirectory: "/nowhere", platform, ...shape };
  return { request: machine, record: image, firmware: undefined, images: [], evidence, ...more };
}

test("an snp report tells which part of a launch differs", { skip }, async () => {
  const firmware = read("snp/launch-digest-upstream/ovmf_AmdSev_suffix.bin");
  const digest = (of: ImageRecord, vcpus: number, cpuModel = "EPYC-v4", kernelHashes = true): string =>
    predictSnp(of, { firmware, cpuModel, kernelHashes }, vcpus).measurements.at(-1) ?? "";
  const measurement: Measurement = {
    platform: "snp",
    shape,
    launches: ["EPYC-v4", "EPYC-Milan"].map((m) => ({
      cpuModels: [m],
      kernelHashes: true,
      measurement: digest(image, 2, m),
    })),
    components: { firmware: "", kernel: "", initrd: "", cmdline: "" },
  };
  const images = [{ name: "other", record: record("kernel 2", "initrd 2", "loud") }];
  const found = async (hex: string): Promise<string> => {
    const report = read("snp/milan-v2-virtee/report.bin");
    report.set(Buffer.from(hex, "hex"), 0x90);
    const evidence = [{ name: "report.bin", bytes: report }];
    const list = await differences(measurement, request("snp", evidence, { firmware, images }));
    return list.map((d) => `${d.component}: ${d.measured}`).join(", ");
  };
  equal(await found(digest(image, 2)), "");
  equal(await found(digest(image, 2, "EPYC-Milan")), "");
  equal(await found(digest(image, 5)), "vcpus: 5");
  equal(await found(digest(record("kernel 2", "initrd", "quiet"), 2, "EPYC-Milan")), "kernel: that of other");
  equal(await found(digest(record("kernel", "initrd 2", "quiet"), 2)), "initrd: that of other");
  equal(await found(digest(record("kernel", "initrd", "loud"), 3)), "command line: that of other, vcpus: 3");
  match(await found(digest(image, 2, "EPYC-v4", false)), /^kernel hashes: absent$/);
  match(await found("ab".repeat(48)), /^firmware, kernel, initrd or command line: (ab){48}: nothing/);
});

/** What a log measured, as if it had been predicted. */
function predictedOf(log: Uint8Array): Extract<Measurement, { platform: "vtpm" }> {
  const parsed = parseEventLog(log);
  const events = parsed.events.flatMap(({ pcr, type, digests }): PredictedEvent[] => {
    const digest = digests.get("sha256");
    if (type === EVENT.NO_ACTION || digest === undefined) return [];
    return [{ pcr, type: "EV", component: "kernel", description: "a kernel", digest: toHex(digest) }];
  });
  const pcrs = Object.fromEntries([...replay(parsed, "sha256")].map(([pcr, value]) => [pcr, toHex(value)]));
  return { platform: "vtpm", shape, pcrs, events };
}

test("a TPM's event log tells which event differs, and must replay to the PCRs beside it", {
  skip,
}, async () => {
  const log = read("tpm/eventlog-rhel8-uefi/eventlog.bin");
  const measurement = predictedOf(log);
  const evidence = [{ name: "log", bytes: log, role: "event_log" }];
  deepEqual(await differences(measurement, request("vtpm", evidence)), []);
  const last = measurement.events.findLastIndex((e) => e.pcr === 4);
  const altered = measurement.events.map((e, i) => (i === last ? { ...e, digest: "00".repeat(32) } : e));
  const found = await differences({ ...measurement, events: altered }, request("vtpm", evidence));
  deepEqual(
    found.map((d) => [d.component, d.predicted]),
    [["kernel", `a kernel (${"00".repeat(32)})`]],
  );
  const list = Array.from({ length: 24 }, (_, n) => measurement.pcrs[n] ?? "00".repeat(32));
  const pcrs = (values: readonly string[]): DiffRequest["evidence"][number] => ({
    name: "pcrs.json",
    bytes: Buffer.from(JSON.stringify({ sha256: Object.fromEntries(values.entries()) })),
    role: "pcrs",
  });
  deepEqual(await differences(measurement, request("vtpm", [pcrs(list)])), []);
  const other = list.with(9, "11".repeat(32));
  const alone = await differences(
    { ...measurement, pcrs: { ...measurement.pcrs, 9: "22".repeat(32) } },
    request("vtpm", [pcrs(other)]),
  );
  deepEqual(
    alone.map((d) => d.component),
    ["initrd or command line (PCR 9)"],
  );
  const sha1 = { name: "log", bytes: read("tpm/eventlog-debian-10/eventlog.bin"), role: "event_log" };
  await rejects(differences(measurement, request("vtpm", [sha1])), {
    code: "EVIDENCE_UNKNOWN",
    message: "the event log has no SHA-256 digests",
  });
  const forged = list.with(4, "11".repeat(32));
  await rejects(differences(measurement, request("vtpm", [...evidence, pcrs(forged)])), {
    code: "EVIDENCE_UNKNOWN",
    message: /does not replay to the quoted PCR 4/,
  });
});

test("a TDX quote and its event log tell which register and which event differ", { skip }, async () => {
  const folder = "tdx/tdx-v4-90c06f-dstack-eventlog";
  const quote = read(folder, "quote.bin");
  const { body } = parseQuote(quote);
  ok(body.kind !== "sgx");
  const log = read(folder, "event_log.json");
  const list = JSON.parse(Buffer.from(log).toString("utf8")) as { imr: 0 | 1 | 2 | 3; digest: string }[];
  const events = list.flatMap(({ imr, digest }): TdxEvent[] =>
    imr === 3
      ? []
      : [{ rtmr: imr, type: "EV", component: imr === 0 ? "machine" : "kernel", description: "x", digest }],
  );
  const rtmrs = Object.fromEntries(body.report.rtmrs.map((value, i) => [i, toHex(value)]));
  const mrTd = toHex(body.report.mrTd);
  const mrtd = { pageByPage: mrTd, sectionBySection: "00" };
  const measurement: Measurement = { platform: "tdx", shape, mrtd, rtmrs, events };
  const alone = [{ name: "quote.bin", bytes: quote }];
  const both = [...alone, { name: "log", bytes: log, role: "ccel" }];
  const components = async (m: Measurement, evidence: DiffRequest["evidence"]): Promise<string[]> =>
    (await differences(m, request("tdx", evidence))).map((d) => d.component);
  deepEqual(await components(measurement, alone), []);
  deepEqual(await components(measurement, both), []);
  const firmware = { ...measurement, mrtd: { pageByPage: "11", sectionBySection: "00" } };
  deepEqual(await components(firmware, both), ["firmware"]);
  const kernel = events.findIndex((e) => e.rtmr === 1);
  const altered = events.map((e, i) => (i === kernel ? { ...e, digest: "00".repeat(48) } : e));
  deepEqual(await components({ ...measurement, events: altered }, both), ["kernel"]);
  deepEqual(await components({ ...measurement, rtmrs: { ...rtmrs, 2: "00" } }, alone), [
    "initrd or command line (RTMR2)",
  ]);
  const cut = Buffer.from(JSON.stringify(list.slice(1)));
  await rejects(
    differences(measurement, request("tdx", [...alone, { name: "log", bytes: cut, role: "ccel" }])),
    { code: "EVIDENCE_UNKNOWN", message: /does not replay to the quoted RTMR/ },
  );
});

test("a CoRIM read by another decoder holds the same digests", () => {
  const hex = (byte: string, size: number): string => byte.repeat(size);
  const reference: ReferenceValues = {
    version: 1,
    workload: "demo",
    image: image.identity,
    values: [
      { platform: "snp", shape, cpuModels: ["EPYC"], measurement: hex("11", 48) },
      { platform: "vtpm", shape, pcrs: { 0: hex("22", 32), 9: hex("33", 32) }, events: [] },
      { platform: "tdx", shape, mrtd: hex("44", 48), rtmrs: { 1: hex("55", 48) } },
      { platform: "csv", shape, cpuModels: [], measurement: hex("66", 32) },
    ],
  };
  const get = (
    value: CborValue | undefined,
    ...path: readonly (number | string)[]
  ): CborValue | undefined => {
    let at = value;
    for (const key of path) {
      if (at === undefined) return undefined;
      at = isMap(at) ? at.get(key) : Array.isArray(at) ? (at as CborValue[])[Number(key)] : undefined;
    }
    return at;
  };
  const outer = decodeCbor(corim(reference), "corim");
  ok(outer instanceof CborTag && outer.tag === 501);
  equal(get(outer.value, 0), `shelter:demo@${image.identity}`);
  const tag = get(outer.value, 1, 0);
  ok(tag instanceof CborTag && tag.tag === 506 && tag.value instanceof Uint8Array);
  const triples = get(decodeCbor(tag.value, "comid"), 4, 0);
  const at = (...path: readonly (number | string)[]): CborValue | undefined => {
    const value = get(triples, ...path);
    return value instanceof Uint8Array ? toHex(value) : value;
  };
  deepEqual([at(0, 0, 0, 1), at(0, 0, 0, 2), at(0, 1, 0, 0)], ["AMD", "SEV-SNP", "measurement"]);
  deepEqual([at(0, 1, 0, 1, 2, 0, 0), at(0, 1, 0, 1, 2, 0, 1)], [7, hex("11", 48)]);
  deepEqual([at(1, 1, 0, 1, 14, 0, 0, 0), at(1, 1, 0, 1, 14, 0, 0, 1)], [1, hex("22", 32)]);
  equal(at(1, 1, 0, 1, 14, 9, 0, 1), hex("33", 32));
  deepEqual([at(2, 1, 0, 0), at(2, 1, 0, 1, 2, 0, 1)], ["mrtd", hex("44", 48)]);
  deepEqual([at(2, 1, 1, 0), at(2, 1, 1, 1, 14, 1, 0, 0)], ["rtmrs", 7]);
  equal(at(2, 1, 1, 1, 14, 1, 0, 1), hex("55", 48));
  deepEqual([at(3, 1, 0, 1, 2, 0, 0), at(3, 1, 0, 1, 2, 0, 1)], ["sm3", hex("66", 32)]);
});
