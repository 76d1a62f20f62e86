import { fromHex, sameBytes, toHex } from "@shelter/base";
import { type EventLog, type ExplainedEvent, explainLog } from "../eventlog/index.ts";
import type { CheckList } from "../verdict.ts";
import type { TpmHash } from "./algorithm.ts";
import type { PcrBanks, PcrSelection } from "./attest.ts";

/** One measurement a boot must show: a PCR, what is measured into it, and its digest. */
export interface ExpectedEvent {
  readonly pcr: number;
  readonly digest: string;
  /** In words, `kernel` or `initrd`. */
  readonly what: string;
}

/** One allowed state: values of PCRs as hex and, where a prediction made them, the events behind them. */
export interface PcrReference {
  /** Default `sha256`. */
  readonly bank?: TpmHash;
  readonly pcrs: Readonly<Record<string, string>>;
  readonly events?: readonly ExpectedEvent[];
}

/** What a PCR holds (TCG PC Client Platform Firmware Profile, table 1, and what Linux boot loaders add). */
const PCR_MEANING: Readonly<Record<number, string>> = {
  0: "firmware",
  1: "firmware configuration",
  2: "option ROMs and drivers",
  3: "configuration of option ROMs and drivers",
  4: "boot loader and kernel",
  5: "boot configuration and partition table",
  6: "manufacturer's use",
  7: "secure boot",
  8: "boot loader commands and kernel command line",
  9: "initrd and kernel command line",
  10: "files measured by the kernel (IMA)",
  11: "unified kernel image",
  12: "kernel command line and credentials",
  13: "system extensions",
  14: "shim's keys",
  15: "system identity",
};

/** In words what is measured into a PCR. */
export function pcrMeaning(pcr: number): string {
  return PCR_MEANING[pcr] ?? "the operating system's use";
}

/**
 * Compares quoted PCRs with the allowed states; one that fits wholly is enough. When none fits, the
 * nearest is told apart PCR by PCR. A reference over a PCR that was not quoted does not fit.
 */
export function checkReferences(
  references: readonly PcrReference[],
  quoted: readonly PcrSelection[],
  values: PcrBanks,
  log: EventLog | undefined,
  checks: CheckList,
): boolean {
  if (references.length === 0) {
    return checks.add({
      name: "pcr-reference",
      ok: false,
      failure: "refused",
      detail: "there is no reference value to compare the PCRs with",
    });
  }
  const results = references.map((reference) => ({
    reference,
    wrong: differences(reference, quoted, values),
  }));
  const fit = results.find((r) => r.wrong.length === 0);
  if (fit !== undefined) {
    return checks.add({
      name: "pcr-reference",
      ok: true,
      failure: "refused",
      claimed: `PCR ${Object.keys(fit.reference.pcrs).join(", ")}`,
    });
  }
  const nearest = results.reduce((a, b) => (b.wrong.length < a.wrong.length ? b : a));
  for (const { pcr, claimed, expected } of nearest.wrong) {
    checks.add({
      name: `pcr-reference-${pcr}`,
      ok: false,
      failure: "refused",
      claimed,
      expected,
      detail: `PCR ${pcr} (${pcrMeaning(pcr)}) differs: ${blame(pcr, nearest.reference, log)}`,
    });
  }
  return false;
}

interface Difference {
  readonly pcr: number;
  readonly claimed: string;
  readonly expected: string;
}

function differences(
  reference: PcrReference,
  quoted: readonly PcrSelection[],
  values: PcrBanks,
): Difference[] {
  const bank = reference.bank ?? "sha256";
  const selected = quoted.find((s) => s.hash === bank)?.pcrs ?? [];
  const wrong: Difference[] = [];
  const entries = Object.entries(reference.pcrs);
  // A reference that names nothing would fit anything.
  if (entries.length === 0) return [{ pcr: 0, claimed: "", expected: "a reference that names PCRs" }];
  for (const [key, expected] of entries) {
    const pcr = Number(key);
    const value = selected.includes(pcr) ? values.get(bank)?.get(pcr) : undefined;
    if (value === undefined) wrong.push({ pcr, claimed: "not quoted", expected });
    else if (!sameBytes(value, fromHex(expected))) wrong.push({ pcr, claimed: toHex(value), expected });
  }
  return wrong;
}

/** Which component makes a PCR differ: by the events of the prediction where there are some. */
function blame(pcr: number, reference: PcrReference, log: EventLog | undefined): string {
  if (log === undefined) return "without an event log nobody can say what";
  const bank = reference.bank ?? "sha256";
  const seen = explainLog(log).filter((e) => e.event.pcr === pcr && e.event.digests.has(bank));
  const expected = reference.events?.filter((e) => e.pcr === pcr);
  if (expected === undefined) {
    const parts = [...new Set(seen.filter((e) => e.component !== "separator").map(shown))];
    return `measured there are ${parts.slice(0, 12).join("; ") || "no components"}`;
  }
  const digestOf = (e: ExplainedEvent): string => toHex(e.event.digests.get(bank) ?? new Uint8Array(0));
  const seenDigests = new Set(seen.map(digestOf));
  const expectedDigests = new Set(expected.map((e) => e.digest));
  const missing = expected.filter((e) => !seenDigests.has(e.digest)).map((e) => e.what);
  const added = seen.filter((e) => !expectedDigests.has(digestOf(e)));
  if (missing.length === 0 && added.length === 0) return "the same measurements in another order or number";
  const other =
    missing.length > 0 ? `not the expected ${[...new Set(missing)].join(", ")}` : "more than expected";
  const instead =
    added.length > 0 ? `; measured instead: ${[...new Set(added.map(shown))].slice(0, 8).join("; ")}` : "";
  return other + instead;
}

function shown(e: ExplainedEvent): string {
  return e.verified || e.component === "initrd" || e.component === "command line"
    ? e.text
    : `${e.component}: ${e.text}`;
}
