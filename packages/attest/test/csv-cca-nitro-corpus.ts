import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import type { CcaInput } from "../src/cca/index.ts";
import type { CsvInput } from "../src/csv/index.ts";
import type { NitroInput } from "../src/nitro/index.ts";
import type { Outcome, Verdict } from "../src/verdict.ts";

const CORPUS = join(import.meta.dirname, "../../../../shared/evidence");

/** One item of the evidence corpus, as its index.json describes it. */
export interface CorpusItem {
  readonly id: string;
  readonly tee: string;
  readonly kind: string;
  readonly files: Readonly<Record<string, { readonly file: string } | undefined>>;
  readonly inputs?: Readonly<Record<string, string | number | undefined>>;
  readonly verify_at?: string;
  readonly mutation?: string;
  readonly expected: {
    readonly verdict: "valid" | "invalid" | "policy";
    readonly reasons?: readonly string[];
    readonly crypto?: string;
    readonly fields?: Readonly<Record<string, unknown>>;
  };
}

/** Why tests over the corpus cannot run, or false. */
export const skip: string | false = existsSync(join(CORPUS, "index.json"))
  ? false
  : `the evidence corpus is absent: no folder ${CORPUS}`;

/** Evidence items of one platform; empty where the corpus is absent. */
export function corpus(tee: string): readonly CorpusItem[] {
  if (skip !== false) return [];
  const { items } = JSON.parse(readFileSync(join(CORPUS, "index.json"), "utf8")) as { items: CorpusItem[] };
  return items.filter((i) => i.tee === tee && i.kind === "evidence");
}

/** One item by name. */
export function item(id: string): CorpusItem {
  const { items } = JSON.parse(readFileSync(join(CORPUS, "index.json"), "utf8")) as { items: CorpusItem[] };
  const found = items.find((i) => i.id === id);
  if (found === undefined) throw new Error(`the corpus has no item ${id}`);
  return found;
}

/** The bytes of an item's file by role; undefined where it has none. */
export function file(of: CorpusItem, role: string): Uint8Array | undefined {
  const entry = of.files[role];
  return entry === undefined ? undefined : new Uint8Array(readFileSync(join(CORPUS, entry.file)));
}

/** The bytes of an item's file that must be there. */
export function needed(of: CorpusItem, role: string): Uint8Array {
  const bytes = file(of, role);
  if (bytes === undefined) throw new Error(`${of.id} has no ${role}`);
  return bytes;
}

/** Bytes of an item's input in hex; undefined where it has none. */
export function input(of: CorpusItem, name: string): Uint8Array | undefined {
  const value = of.inputs?.[name];
  return typeof value === "string" ? new Uint8Array(Buffer.from(value, "hex")) : undefined;
}

/** Outcomes that agree with a verdict of the corpus. */
export const AGREES: Readonly<Record<CorpusItem["expected"]["verdict"], readonly Outcome[]>> = {
  valid: ["accepted"],
  invalid: ["malformed", "untrusted", "expired"],
  policy: ["refused", "incomplete"],
};

/** What failed, for the message of an assertion. */
export function failures(verdict: Verdict): string {
  return verdict.checks
    .filter((c) => !c.ok)
    .map((c) => `${c.name} (${c.failure}): ${c.detail ?? ""} ${c.claimed ?? ""} / ${c.expected ?? ""}`)
    .join("; ");
}

/** What a CSV item gives a verifier. */
export function csvInput(of: CorpusItem): CsvInput {
  const reportData = input(of, "expected_report_data");
  const mnonce = input(of, "mnonce");
  const magic = input(of, "wrapper_magic");
  const hskCek = file(of, "hsk_cek");
  const root = file(of, "root");
  const eventLog = file(of, "ccel");
  return {
    evidence: file(of, "evidence_json") ?? needed(of, "report"),
    ...(magic === undefined ? {} : { wrapper: { magic, flags: Number(of.inputs?.["wrapper_flags"]) } }),
    ...(hskCek === undefined ? {} : { hskCek }),
    ...(root === undefined ? {} : { root }),
    ...(eventLog === undefined ? {} : { eventLog }),
    expect: {
      ...(reportData === undefined ? {} : { reportData }),
      ...(mnonce === undefined ? {} : { mnonce }),
    },
  };
}

/** What a Nitro item gives a verifier. */
export function nitroInput(of: CorpusItem): NitroInput {
  const root = file(of, "root");
  const nonce = input(of, "expected_nonce");
  const userData = input(of, "expected_user_data");
  return {
    document: needed(of, "document"),
    at: new Date(of.verify_at ?? ""),
    ...(root === undefined ? {} : { root }),
    expect: {
      ...(nonce === undefined ? {} : { nonce }),
      ...(userData === undefined ? {} : { userData }),
    },
  };
}

/** What a CCA item gives a verifier. */
export function ccaInput(of: CorpusItem): CcaInput {
  const challenge = input(of, "expected_challenge");
  return {
    token: needed(of, "token"),
    cpak: needed(of, "cpak"),
    expect: challenge === undefined ? {} : { challenge },
  };
}
