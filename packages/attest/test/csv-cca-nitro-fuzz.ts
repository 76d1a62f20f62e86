import { sameBytes } from "@shelter/base";
import { parseCcaToken, renderCca, verifyCca } from "../src/cca/index.ts";
import { parseCsvEvidence, renderCsv, verifyCsv } from "../src/csv/index.ts";
import { parseNitroDocument, renderNitro, verifyNitro } from "../src/nitro/index.ts";
import { ccaInput, corpus, csvInput, item, nitroInput } from "./csv-cca-nitro-corpus.ts";

/** What a run of the fuzzer did. */
export interface FuzzResult {
  readonly tried: number;
  readonly accepted: number;
}

/** One platform: where mutants come from, and what must hold for each. */
interface Target {
  /** Evidence that is accepted as it stands. */
  readonly base: Uint8Array;
  /** More material to splice from. */
  readonly others: readonly Uint8Array[];
  /**
   * Judges a mutant: true when it was accepted. Throws when it was accepted although what the signatures cover is
   * not what it was, or when anything but a verdict came out.
   */
  readonly judge: (mutant: Uint8Array) => boolean;
}

/** Small, fast and the same everywhere (mulberry32). */
function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

const EDGES = [0, 1, 0x17, 0x18, 0x1f, 0x3f, 0x40, 0x5f, 0x7f, 0x80, 0x9f, 0xa0, 0xbf, 0xd2, 0xf6, 0xff];

/** One to four changes: bits, edge bytes, runs, cuts, insertions, copies within and from other material. */
export function mutate(
  base: Uint8Array,
  others: readonly Uint8Array[],
  random: (below: number) => number,
): Uint8Array {
  let bytes: Uint8Array = Uint8Array.from(base);
  for (let n = 1 + random(4); n > 0; n--) {
    const at = random(bytes.length + 1);
    const length = 1 + random(random(8) === 0 ? 512 : 8);
    const piece = (from: Uint8Array): Uint8Array => {
      const start = random(from.length + 1);
      return from.subarray(start, start + length);
    };
    const insert = (part: Uint8Array, over: number): Uint8Array =>
      Buffer.concat([bytes.subarray(0, at), part, bytes.subarray(at + over)]);
    switch (random(8)) {
      case 0:
      case 1:
        if (at < bytes.length) bytes[at] = (bytes[at] ?? 0) ^ (1 << random(8));
        break;
      case 2:
        if (at < bytes.length) bytes[at] = EDGES[random(EDGES.length)] ?? 0;
        break;
      case 3:
        bytes = insert(new Uint8Array(length).fill(EDGES[random(EDGES.length)] ?? 0), length);
        break;
      case 4:
        bytes = random(2) === 0 ? bytes.slice(0, at) : insert(new Uint8Array(), length);
        break;
      case 5:
        bytes = insert(piece(bytes), random(2) === 0 ? 0 : length);
        break;
      case 6:
        bytes = insert(piece(others[random(others.length)] ?? bytes), length);
        break;
      default:
        bytes = insert(
          Uint8Array.from({ length }, () => random(256)),
          random(2) === 0 ? 0 : length,
        );
    }
  }
  return bytes;
}

function demand(held: boolean, what: string): void {
  if (!held) throw new Error(`accepted with another ${what}`);
}

function csvTarget(id: string): Target {
  const { wrapper: _, ...input } = csvInput(item(id));
  const before = parseCsvEvidence(input.evidence);
  return {
    base: input.evidence,
    others: corpus("csv").map((of) => csvInput(of).evidence),
    judge: (evidence) => {
      const verdict = verifyCsv({ ...input, evidence });
      if (verdict.outcome !== "malformed") renderCsv(evidence);
      if (verdict.outcome !== "accepted") return false;
      const after = parseCsvEvidence(evidence);
      demand(sameBytes(after.report.signed, before.report.signed), "signed report");
      demand(
        sameBytes(after.pek?.signed ?? evidence, before.pek?.signed ?? input.evidence),
        "pek certificate",
      );
      demand(after.serialNumber === before.serialNumber, "serial number");
      demand(sameBytes(after.report.reportData, before.report.reportData), "report data");
      demand(after.report.policy.raw === before.report.policy.raw, "policy");
      return true;
    },
  };
}

/** Mutates HSK and CEK instead of the report. */
function csvChainTarget(): Target {
  const input = csvInput(item("csv-v1-full-chain"));
  const base = input.hskCek ?? new Uint8Array();
  return {
    base,
    others: [csvInput(item("csv-v2-synthetic")).hskCek ?? base],
    judge: (hskCek) => {
      const accepted = verifyCsv({ ...input, hskCek }).outcome === "accepted";
      if (accepted) {
        demand(sameBytes(hskCek.subarray(0, 576), base.subarray(0, 576)), "hsk");
        demand(sameBytes(hskCek.subarray(832, 832 + 1044), base.subarray(832, 832 + 1044)), "cek");
      }
      return accepted;
    },
  };
}

function ccaTarget(id: string): Target {
  const { expect: _, ...input } = ccaInput(item(id));
  const before = parseCcaToken(input.token);
  return {
    base: input.token,
    others: corpus("cca").map((of) => ccaInput(of).token),
    judge: (token) => {
      const verdict = verifyCca({ ...input, token });
      if (verdict.outcome !== "malformed") renderCca(token);
      if (verdict.outcome !== "accepted") return false;
      const after = parseCcaToken(token);
      for (const part of ["platform", "realm"] as const) {
        demand(sameBytes(after[part].cose.payload, before[part].cose.payload), `${part} payload`);
        demand(
          sameBytes(after[part].cose.protectedBytes, before[part].cose.protectedBytes),
          `${part} header`,
        );
      }
      return true;
    },
  };
}

function nitroTarget(id: string): Target {
  const { expect: _, ...input } = nitroInput(item(id));
  const before = parseNitroDocument(input.document);
  return {
    base: input.document,
    others: corpus("nitro").map((of) => nitroInput(of).document),
    judge: (document) => {
      const verdict = verifyNitro({ ...input, document });
      if (verdict.outcome !== "malformed") renderNitro(document);
      if (verdict.outcome !== "accepted") return false;
      const after = parseNitroDocument(document);
      demand(sameBytes(after.cose.payload, before.cose.payload), "payload");
      demand(sameBytes(after.cose.protectedBytes, before.cose.protectedBytes), "header");
      return true;
    },
  };
}

/** What can be fuzzed, by name. */
export const TARGETS: Readonly<Record<string, () => Target>> = {
  "csv v1": () => csvTarget("csv-v1-full-chain"),
  "csv v2": () => csvTarget("csv-v2-synthetic"),
  "csv chain": csvChainTarget,
  "cca 1": () => ccaTarget("cca-tfrmm-token01"),
  "cca 2": () => ccaTarget("cca-token02-es256"),
  nitro: () => nitroTarget("nitro-2022-veracruz"),
};

/** Judges mutants of one target until told to stop. */
export function fuzz(name: string, seed: number, done: (tried: number) => boolean): FuzzResult {
  const target = TARGETS[name]?.();
  if (target === undefined) throw new Error(`no target ${name}`);
  if (!target.judge(target.base)) throw new Error(`${name}: the base is not accepted`);
  const random = generator(seed);
  let tried = 0;
  let accepted = 0;
  while (!done(tried)) {
    const mutant = mutate(target.base, target.others, random);
    tried++;
    try {
      if (target.judge(mutant)) accepted++;
    } catch (cause) {
      const hex = Buffer.from(mutant).toString("hex");
      throw new Error(`${name}, seed ${seed}, mutant ${tried}: ${hex.slice(0, 20_000)}`, { cause });
    }
  }
  return { tried, accepted };
}

/** Flips every bit of a target's base, one at a time; returns those that were accepted all the same. */
export function everyBit(
  name: string,
  onProgress: (bit: number, of: number) => void = () => undefined,
): number[] {
  const target = TARGETS[name]?.();
  if (target === undefined) throw new Error(`no target ${name}`);
  const accepted: number[] = [];
  const bits = target.base.length * 8;
  for (let bit = 0; bit < bits; bit++) {
    const mutant = Uint8Array.from(target.base);
    mutant[bit >> 3] = (mutant[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    if (target.judge(mutant)) accepted.push(bit);
    if (bit % 1024 === 0) onProgress(bit, bits);
  }
  return accepted;
}
