import { readFileSync } from "node:fs";
import { join } from "node:path";
import {
  CheckList,
  checkContents,
  collateralRequests,
  explainLog,
  judgeEvidence,
  judgeRoles,
  parseCertificate,
  parseCrl,
  parseEventLog,
  parseExpectations,
  parsePem,
  parseTpm2bPublic,
  parseTpmEvidence,
  parseTpmQuote,
  parseTpmSignature,
  publicKeyOf,
  readPublicKeyFile,
  recognise,
  renderEvidence,
  replayAll,
  verifyChain,
  verifyTpmEvidence,
} from "@shelter/attest";
import { parseJson, ShelterError, sameBytes } from "@shelter/base";
import { mutate } from "./csv-cca-nitro-fuzz.ts";
import { corpusAbsent, corpusFile, corpusItem, corpusItems } from "./snp-corpus.ts";
import { crl, signer } from "./snp-forge.ts";

/** One parser or verifier: where mutants come from, and what must hold for each. */
interface Target {
  readonly bases: readonly Uint8Array[];
  /** True when the mutant was accepted; throws an ordinary error when that, or how it failed, is wrong. */
  readonly judge: (mutant: Uint8Array) => boolean;
}

const SWTPM = JSON.parse(readFileSync(join(import.meta.dirname, "fixtures/swtpm.json"), "utf8")) as {
  readonly nonce: string;
  readonly root: string;
  readonly issuer: string;
  readonly ekRsaCertificate: string;
  readonly akRsa: string;
  readonly quotes: readonly { readonly ak: string; readonly message: string; readonly signature: string }[];
};
const AT = new Date("2026-12-01T00:00:00Z");
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "base64"));
const text = (mutant: Uint8Array): string => Buffer.from(mutant).toString("utf8");

function certificates(): Target {
  const root = parseCertificate(bytes(SWTPM.root));
  const issuer = parseCertificate(bytes(SWTPM.issuer));
  const ek = bytes(SWTPM.ekRsaCertificate);
  const { tbs } = parseCertificate(ek);
  return {
    bases: [ek],
    judge: (mutant) => {
      const leaf = parseCertificate(mutant);
      const checks = new CheckList();
      const request = { leaf, intermediates: [issuer], anchors: [root], at: AT, checks, label: "ek" };
      if (!verifyChain(request).trusted) return false;
      if (!sameBytes(leaf.tbs, tbs)) throw new Error("accepted with another signed part");
      return true;
    },
  };
}

function crls(): Target {
  const by = signer("authority", "P-256");
  const list = crl(by, [1, 2, 3], new Date("2026-01-01"), new Date("2027-01-01"));
  return { bases: [list], judge: (mutant) => parseCrl(mutant).revoked.size >= 0 };
}

function pem(): Target {
  const block = (label: string, text: string): string =>
    `-----BEGIN ${label}-----\n${text}\n-----END ${label}-----\n`;
  const file = block("CERTIFICATE", SWTPM.root) + block("CERTIFICATE", SWTPM.issuer);
  return { bases: [Buffer.from(file)], judge: (mutant) => parsePem(text(mutant)).length >= 0 };
}

function logs(): Target {
  const bases = corpusItems("tpm", "event-log").flatMap(
    (item) => corpusFile(item, "log")?.slice(0, 65_536) ?? [],
  );
  return {
    bases,
    judge: (mutant) => {
      const log = parseEventLog(mutant);
      explainLog(log);
      replayAll(log);
      return checkContents(log, new CheckList());
    },
  };
}

function structures(): Target {
  const quotes = SWTPM.quotes.flatMap((q) => [bytes(q.message), bytes(q.signature), bytes(q.ak)]);
  const parsers = [
    parseTpmQuote,
    parseTpmSignature,
    (b: Uint8Array) => publicKeyOf(parseTpm2bPublic(b)),
    readPublicKeyFile,
  ];
  let turn = 0;
  return {
    bases: quotes,
    judge: (mutant) => {
      parsers[turn++ % parsers.length]?.(mutant);
      return true;
    },
  };
}

function evidence(): Target {
  const quote = SWTPM.quotes[0] ?? { ak: "", message: "", signature: "" };
  const spki = publicKeyOf(parseTpm2bPublic(bytes(quote.ak))).export({ format: "der", type: "spki" });
  const pcrs = Array.from({ length: 24 }, () => "00".repeat(32));
  const json = {
    tpm_quote: { signature: quote.signature, message: quote.message, pcrs },
    ak_public: spki.toString("base64"),
    ak_tpm_public: quote.ak,
    ek_certificate: SWTPM.ekRsaCertificate,
  };
  const { raw } = parseTpmQuote(bytes(quote.message));
  return {
    bases: [Buffer.from(JSON.stringify(json))],
    judge: (mutant) => {
      const parsed = parseTpmEvidence(parseJson(text(mutant), "mutant"));
      const key = parsed.akPublic.export({ format: "der", type: "spki" });
      const verdict = verifyTpmEvidence({
        evidence: parsed,
        nonce: Buffer.from(SWTPM.nonce, "hex"),
        trust: { by: "pinned", keys: [spki] },
        at: AT,
      });
      if (verdict.outcome !== "accepted") return false;
      if (!sameBytes(parsed.quote.raw, raw) || !sameBytes(key, spki))
        throw new Error("accepted with another quote");
      return true;
    },
  };
}

function azure(): Target {
  const items = ["az-snp-milan-v1", "az-tdx-v1"].map((id) => corpusItem("tpm", id));
  const bases = items.flatMap((item) => corpusFile(item, "evidence_json") ?? []);
  const nonce = Buffer.from("challenge");
  const files = Object.fromEntries(["ca", "root"].map((role) => [role, corpusFile(items[0]!, role)]));
  const at = new Date("2026-07-01T00:00:00Z");
  const judge = (json: Uint8Array) =>
    judgeRoles({
      platform: "az-snp-vtpm",
      files: { ...files, evidence_json: json },
      at,
      expect: { reportData: nonce },
    });
  const genuine = judge(bases[0] ?? new Uint8Array()).claims;
  return {
    bases,
    judge: (mutant) => {
      const verdict = judge(mutant);
      if (verdict.outcome !== "accepted") return false;
      for (const claim of ["var_data_hash", "pcr_digest", "nonce", "user_data"]) {
        if (verdict.claims[claim] !== genuine[claim]) throw new Error(`accepted with another ${claim}`);
      }
      return true;
    },
  };
}

/** Anything at all, given as evidence of an unknown platform and as collateral. */
function anything(): Target {
  const bases = ["snp", "tdx", "sgx", "csv", "tpm", "cca", "nitro"].flatMap((tee) =>
    corpusItems(tee)
      .filter((item) => item.expected.verdict === "valid")
      .flatMap((item) => Object.keys(item.files).flatMap((role) => corpusFile(item, role) ?? [])),
  );
  return {
    bases,
    judge: (mutant) => {
      const file = { name: "mutant", bytes: mutant };
      recognise(file.name, file.bytes);
      const verdict = judgeEvidence({ files: [file], collateral: [file], at: AT });
      renderEvidence([file]);
      collateralRequests(verdict.missing);
      return verdict.outcome === "accepted";
    },
  };
}

function expectations(): Target {
  const json = {
    nonce: "00ff",
    measurements: ["11".repeat(48)],
    registers: { 1: "22".repeat(48), 2: ["33".repeat(48)] },
    pcrs: [{ 4: "44".repeat(32) }],
    allowDebug: false,
    allowTcbStatuses: ["OutOfDate"],
  };
  return {
    bases: [Buffer.from(JSON.stringify(json))],
    judge: (mutant) => Object.keys(parseExpectations(text(mutant))).length > 0,
  };
}

/** What can be fuzzed, by name. */
export const TARGETS: Readonly<Record<string, () => Target>> = {
  certificate: certificates,
  crl: crls,
  pem,
  structures,
  evidence,
  expectations,
  ...(corpusAbsent === undefined ? { logs, azure, anything } : {}),
};

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

/** Judges mutants of one target until told to stop; an error that is not one of ours ends it with the mutant. */
export function fuzz(
  name: string,
  seed: number,
  done: (tried: number) => boolean,
): { tried: number; accepted: number } {
  const target = TARGETS[name]?.();
  if (target === undefined) throw new Error(`no target ${name}`);
  const random = generator(seed);
  let tried = 0;
  let accepted = 0;
  while (!done(tried)) {
    const base = target.bases[random(target.bases.length)] ?? new Uint8Array();
    const mutant = mutate(base, target.bases, random);
    tried++;
    try {
      if (target.judge(mutant)) accepted++;
    } catch (error) {
      if (error instanceof ShelterError && error.kind !== "bug") continue;
      const hex = Buffer.from(mutant).toString("hex").slice(0, 20_000);
      throw new Error(`${name}, seed ${seed}, mutant ${tried}: ${hex}`, { cause: error });
    }
  }
  return { tried, accepted };
}

/**
 * Flips every bit of an Azure item's signed files, one at a time; gives the bytes of each file whose
 * change was accepted all the same.
 */
export function everyAzureBit(): Readonly<Record<string, readonly number[]>> {
  const item = corpusItem("tpm", "az-snp-milan-v1");
  const roles = ["hcl_report", "tpm_quote", "tpm_signature", "vek", "ca", "root"];
  const files = Object.fromEntries(roles.map((role) => [role, corpusFile(item, role)]));
  const judge = (changed: Record<string, Uint8Array>): string =>
    judgeRoles({
      platform: "az-snp-vtpm",
      files: { ...files, ...changed },
      at: new Date(item.verify_at),
      expect: { reportData: Buffer.from("challenge") },
    }).outcome;
  if (judge({}) !== "accepted") throw new Error("the base is not accepted");
  const accepted: Record<string, number[]> = {};
  for (const role of ["hcl_report", "tpm_quote", "tpm_signature"]) {
    const base = files[role] ?? new Uint8Array();
    const found = new Set<number>();
    for (let bit = 0; bit < base.length * 8; bit++) {
      const mutant = Uint8Array.from(base);
      mutant[bit >> 3] = (mutant[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      if (judge({ [role]: mutant }) === "accepted") found.add(bit >> 3);
    }
    accepted[role] = [...found];
  }
  return accepted;
}
