import type { Check, RoleFiles, Verdict } from "@shelter/attest";
import { describe, type Json, ShelterError } from "@shelter/base";
import { type CorpusVerdict, corpusVerdict, differingFields } from "./conformance/compare.ts";
import { CorpusError, type CorpusItem, readCorpus, readFiles } from "./conformance/corpus.ts";
import { judgeEvidenceItem } from "./conformance/evidence.ts";
import { judgeLogItem } from "./conformance/log.ts";
import { judgeVectorsItem, reproduceLaunch } from "./conformance/measure.ts";
import { judgeRootItem } from "./conformance/root.ts";

/** What came of one item. */
export interface ItemResult {
  readonly id: string;
  readonly verdict: CorpusVerdict;
  readonly expected: string;
  readonly agrees: boolean;
  /** Failed checks, in their own names. */
  readonly reasons: readonly string[];
  /** Why it differs; empty when it agrees. */
  readonly differences: readonly string[];
}

/** Judges one item of a corpus and compares with what the corpus expects. */
export function judgeItem(directory: string, item: CorpusItem): ItemResult {
  let files: RoleFiles;
  let verdict: Verdict;
  try {
    files = readFiles(directory, item);
    verdict = judge(item, files);
  } catch (error) {
    // What could not be judged agrees with nothing.
    if (!(error instanceof ShelterError)) throw error;
    return unjudged(item.id, String(item.expected["verdict"] ?? ""), error);
  }
  const ours = corpusVerdict(verdict.outcome);
  const expected = typeof item.expected["verdict"] === "string" ? item.expected["verdict"] : "";
  const failed = verdict.checks.filter((c) => !c.ok);
  const differences = ours === expected ? [] : [`expected ${expected}`];
  if (item.expected["launch_digest_reproduced"] === true)
    differences.push(...launchDifferences(item, files, verdict));
  // Claims of evidence whose form does not hold were never read.
  if (verdict.outcome !== "malformed") differences.push(...fieldDifferences(item, verdict));
  return {
    id: item.id,
    verdict: ours,
    expected,
    agrees: differences.length === 0,
    reasons: failed.map(reason),
    differences,
  };
}

function fieldDifferences(item: CorpusItem, verdict: Verdict): string[] {
  // `tcb_detail` is an explanation in the corpus's own words (which advisories, in which order), no value of the evidence.
  const { fields, tcb_status } = item.expected;
  const expected: Record<string, Json> = {};
  if (fields !== undefined && fields !== null) Object.assign(expected, fields);
  if (tcb_status !== undefined && tcb_status !== null) expected["tcb_status"] = tcb_status;
  return differingFields(expected, verdict.claims).map((path) => `field ${path}`);
}

/** Whether the measurement is the one our prediction makes of the item's launch inputs. */
function launchDifferences(item: CorpusItem, files: RoleFiles, verdict: Verdict): string[] {
  const inputs = files["launch_inputs"];
  if (inputs === undefined) return [`${item.id} has no launch_inputs`];
  try {
    const predicted = reproduceLaunch(inputs);
    return predicted === verdict.claims["measurement"] ? [] : [`launch digest predicted as ${predicted}`];
  } catch (error) {
    if (!(error instanceof ShelterError)) throw error;
    return [`launch digest not predicted: ${describe(error)}`];
  }
}

function reason(check: Check): string {
  const what =
    check.detail ?? (check.expected === undefined ? undefined : `${check.claimed} is not ${check.expected}`);
  return what === undefined ? check.name : `${check.name}: ${what}`;
}

function unjudged(id: string, expected: string, error: ShelterError): ItemResult {
  const differences = [`not judged: ${describe(error)}`];
  return { id, verdict: "invalid", expected, agrees: false, reasons: [], differences };
}

function judge(item: CorpusItem, files: RoleFiles): Verdict {
  switch (item.kind) {
    case "evidence":
      return judgeEvidenceItem(item, files);
    case "event-log":
      return judgeLogItem(item, files);
    case "trust-root":
      return judgeRootItem(item, files);
    case "measurement-vectors":
      return judgeVectorsItem(item, files);
    default:
      throw new CorpusError("CORPUS_MALFORMED", `${item.id}: kind ${item.kind}`);
  }
}

/** One line on an item. */
export function resultLine(result: ItemResult): string {
  const reasons = result.reasons.length === 0 ? "" : ` (${shorten(result.reasons.join("; "))})`;
  const end = result.agrees ? "agrees" : `DIFFERS: ${result.differences.slice(0, 6).join("; ")}`;
  return `${result.id} ${result.verdict}${reasons} ${end}`;
}

function shorten(text: string): string {
  const one = text.replace(/\s+/g, " ");
  return one.length > 240 ? `${one.slice(0, 240)}…` : one;
}

const USAGE = "usage: npm run conformance -- evidence DIR [--json]";

/** Runs the command; gives its exit status. */
export function conformance(args: readonly string[], write: (line: string) => void): number {
  const json = args.includes("--json");
  const [what, directory, ...more] = args.filter((arg) => arg !== "--json");
  if (what !== "evidence" || directory === undefined || more.length > 0) {
    write(USAGE);
    return 2;
  }
  let agreed = 0;
  let differed = 0;
  for (const item of readCorpus(directory)) {
    const result = "error" in item ? unjudged(item.id, "", item.error) : judgeItem(directory, item);
    if (result.agrees) agreed++;
    else differed++;
    write(json ? JSON.stringify(result) : resultLine(result));
  }
  write(json ? JSON.stringify({ agree: agreed, differ: differed }) : `${agreed} agree, ${differed} differ`);
  return differed === 0 && agreed > 0 ? 0 : 1;
}

if (import.meta.main) {
  try {
    process.exitCode = conformance(process.argv.slice(2), (line) => process.stdout.write(`${line}\n`));
  } catch (error) {
    process.stderr.write(`conformance: ${describe(error)}\n`);
    process.exitCode = error instanceof ShelterError ? 65 : 70;
  }
}
