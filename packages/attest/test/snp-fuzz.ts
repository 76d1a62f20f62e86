import assert from "node:assert/strict";
import { isDeepStrictEqual } from "node:util";
import {
  DcapCollateral,
  type DcapFiles,
  fieldLines,
  parseQuote,
  renderQuote,
  renderSnp,
  replayRtmrs,
  SnpCollateral,
  type Verdict,
  verifySgx,
  verifySnp,
  verifyTdx,
} from "@shelter/attest";
import { ShelterError } from "@shelter/base";
import { corpusFile, corpusItem, present } from "./snp-corpus.ts";

/** How a run went. */
export interface FuzzResult {
  readonly tried: number;
  /** Accepted although changed, with the very same claims: the change was in nothing that is signed. */
  readonly harmless: number;
  readonly outcomes: Readonly<Record<string, number>>;
}

type Files = Readonly<Record<string, Uint8Array>>;

/** Evidence as files by name, and a judgement over them. */
export interface Target {
  readonly files: Files;
  readonly judge: (files: Files) => Verdict;
  /** Parsers and printers that hostile bytes reach also without a judgement. */
  readonly poke: (files: Files) => void;
}

/** Numbers from a seed (mulberry32). */
export function randomFrom(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * below);
  };
}

const INTERESTING = [0, 1, 0x7f, 0x80, 0xff, 0x20, 0x22, 0x2c, 0x30, 0x7b, 0x7d];

/** One to four changes to some bytes. */
function mutate(bytes: Uint8Array, random: (below: number) => number): Uint8Array {
  let out = Buffer.from(bytes);
  for (let n = 1 + random(4); n > 0; n--) {
    const at = random(Math.max(1, out.length));
    switch (random(8)) {
      case 0:
      case 1:
        if (out.length > 0) out[at] = (out[at] ?? 0) ^ (1 << random(8));
        break;
      case 2:
        if (out.length > 0) out[at] = INTERESTING[random(INTERESTING.length)] ?? 0;
        break;
      case 3:
        out = out.subarray(0, at);
        break;
      case 4:
        out = Buffer.concat([
          out.subarray(0, at),
          Buffer.alloc(1 + random(64), random(256)),
          out.subarray(at),
        ]);
        break;
      case 5:
        out = Buffer.concat([out.subarray(0, at), out.subarray(Math.min(out.length, at + 1 + random(64)))]);
        break;
      case 6: {
        const from = random(Math.max(1, out.length));
        const piece = Buffer.from(out.subarray(from, from + 1 + random(256)));
        out = Buffer.concat([out.subarray(0, at), piece, out.subarray(at)]);
        break;
      }
      default:
        if (at + 4 <= out.length) out.writeUInt32LE([0, 1, 0x7fffffff, 0xffffffff][random(4)] ?? 0, at);
    }
  }
  return new Uint8Array(out);
}

/**
 * Changes files of a target until told to stop. Whatever the change, there is a verdict and never an
 * exception; what is accepted all the same claims exactly what the unchanged evidence claims.
 */
export function fuzzTarget(target: Target, seed: number, stop: (tried: number) => boolean): FuzzResult {
  const random = randomFrom(seed);
  const names = Object.keys(target.files);
  const original = target.judge(target.files);
  assert.equal(original.outcome, "accepted", "the unchanged evidence is not accepted");
  const outcomes: Record<string, number> = {};
  let harmless = 0;
  let tried = 0;
  for (; !stop(tried); tried++) {
    const name = names[random(names.length)] ?? "";
    const changed = mutate(target.files[name] ?? new Uint8Array(), random);
    const files = { ...target.files, [name]: changed };
    const verdict = target.judge(files);
    outcomes[verdict.outcome] = (outcomes[verdict.outcome] ?? 0) + 1;
    if (verdict.outcome === "accepted") {
      harmless++;
      const same = isDeepStrictEqual(verdict.claims, original.claims);
      assert.ok(same, `seed ${seed}, case ${tried}: accepted with other claims after changing ${name}`);
    }
    target.poke(files);
  }
  return { tried, harmless, outcomes };
}

/** Flips every bit of a file from `from` to `to`, one at a time; none may be accepted. Returns how many. */
export function flipEveryBit(target: Target, name: string, from: number, to: number): number {
  const file = (target.files[name] ?? new Uint8Array()).slice();
  assert.equal(target.judge({ ...target.files, [name]: file }).outcome, "accepted");
  for (let bit = from * 8; bit < to * 8; bit++) {
    const at = bit >> 3;
    const before = file[at] ?? 0;
    file[at] = before ^ (1 << (bit & 7));
    const { outcome } = target.judge({ ...target.files, [name]: file });
    assert.notEqual(outcome, "accepted", `${name}: bit ${bit} flipped and accepted`);
    file[at] = before;
  }
  return (to - from) * 8;
}

/** Runs something hostile bytes may reach; only our own named errors may come out. */
function quietly(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof ShelterError) || error.kind === "bug") throw error;
  }
}

function role(id: string, tee: string, name: string): Uint8Array {
  const file = corpusFile(corpusItem(tee, id), name);
  assert.ok(file, `${id} has no ${name}`);
  return file;
}

/** A genuine SNP report with its chain as a certificate table. */
export function snpTarget(): Target {
  const id = "genoa-v5-lunal--cert-table";
  const at = new Date("2026-07-01T00:00:00Z");
  const files = { report: role(id, "snp", "report"), certTable: role(id, "snp", "cert_table") };
  const cache = new Map<Uint8Array, SnpCollateral>();
  const parsed = (certTable: Uint8Array): { collateral?: SnpCollateral; certTable?: Uint8Array } => {
    // The unchanged table is parsed once, as a broker would; changed ones each time.
    if (certTable !== files.certTable) return { certTable };
    const collateral = cache.get(certTable) ?? new SnpCollateral({ certTable });
    cache.set(certTable, collateral);
    return { collateral };
  };
  return {
    files,
    judge: ({ report = new Uint8Array(), certTable = new Uint8Array() }) =>
      verifySnp({ report, at, ...parsed(certTable) }),
    poke: ({ report = new Uint8Array() }) => quietly(() => fieldLines(renderSnp(report))),
  };
}

const DCAP_ROLES = {
  tcbInfo: "tcb_info",
  qeIdentity: "qe_identity",
  tcbInfoChain: "tcb_info_chain",
  pckCrl: "pck_crl",
  pckCrlChain: "pck_crl_chain",
  rootCrl: "root_crl",
} as const;

function dcapTarget(
  tee: "tdx" | "sgx",
  id: string,
  log: string | undefined,
  verify: (quote: Uint8Array, collateral: DcapFiles | DcapCollateral, eventLog?: Uint8Array) => Verdict,
): Target {
  const names = Object.keys(DCAP_ROLES) as (keyof typeof DCAP_ROLES)[];
  const collateral = Object.fromEntries(names.map((n) => [n, role(id, tee, DCAP_ROLES[n])]));
  const files: Record<string, Uint8Array> = { quote: role(id, tee, "quote"), ...collateral };
  if (log !== undefined) files["eventLog"] = role(id, tee, log);
  const whole = new DcapCollateral(collateral);
  return {
    files,
    judge: (given) => {
      const { quote = new Uint8Array(), eventLog, ...rest } = given;
      const unchanged = names.every((n) => rest[n] === files[n]);
      return verify(quote, unchanged ? whole : rest, eventLog);
    },
    poke: ({ quote = new Uint8Array(), eventLog }) => {
      quietly(() => fieldLines(renderQuote(quote)));
      quietly(() => replayRtmrs(eventLog ?? quote));
    },
  };
}

/** A genuine TDX quote with its event log. */
export function tdxTarget(): Target {
  const at = new Date("2026-03-05T10:50:03Z");
  return dcapTarget("tdx", "tdx-v4-90c06f-dstack-eventlog", "event_log", (quote, collateral, eventLog) =>
    verifyTdx({ quote, collateral, at, ...present({ eventLog }) }),
  );
}

/** A genuine SGX quote. */
export function sgxTarget(): Target {
  const at = new Date("2025-08-30T05:09:06Z");
  const expect = { allowTcbStatuses: ["SWHardeningNeeded"] } as const;
  return dcapTarget("sgx", "sgx-v3-00606a-swhardening", undefined, (quote, collateral) =>
    verifySgx({ quote, collateral, at, expect }),
  );
}

/** Where the certificates of a quote begin: before it everything is signed or bound. */
export function boundSize(quote: Uint8Array): number {
  const { certification } = parseQuote(quote);
  return certification.data.byteOffset - quote.byteOffset;
}
