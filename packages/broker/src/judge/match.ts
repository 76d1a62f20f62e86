import { type Check, pcrMeaning } from "@shelter/attest";
import type { Nearest, ReferenceInfo } from "../api.ts";

/** Which workloads measurements belong to, and if none, which one they come closest to. */
export interface Match {
  readonly workloads: readonly string[];
  readonly nearest: Nearest | null;
  /** The reference value behind `nearest`. */
  readonly nearestReference: ReferenceInfo | null;
  readonly check: Check;
}

/** Compares measurements with all reference values: every value a reference names must be equal. */
export function matchWorkloads(
  measurements: Readonly<Record<string, string>>,
  references: readonly ReferenceInfo[],
): Match {
  const workloads = new Set<string>();
  let nearest: Nearest | null = null;
  let nearestReference: ReferenceInfo | null = null;
  for (const reference of references) {
    const differs = differences(measurements, reference);
    if (differs.length === 0) workloads.add(reference.workload);
    else if (nearest === null || differs.length < nearest.differs.length) {
      nearest = { workload: reference.workload, reference: reference.id, differs };
      nearestReference = reference;
    }
  }
  if (workloads.size > 0) {
    const names = [...workloads];
    return {
      workloads: names,
      nearest: null,
      nearestReference: null,
      check: { name: "reference-values", ok: true, failure: "refused", claimed: names.join(", ") },
    };
  }
  return { workloads: [], nearest, nearestReference, check: refusal(nearest) };
}

function differences(
  measurements: Readonly<Record<string, string>>,
  reference: ReferenceInfo,
): Nearest["differs"] {
  const differs = [];
  const named = Object.entries(reference.pcrs);
  // A reference that names nothing matches nothing.
  if (named.length === 0) return [{ pcr: 0, what: "everything", claimed: "", expected: "" }];
  for (const [pcr, expected] of named) {
    const claimed = measurements[pcr];
    if (claimed === expected) continue;
    differs.push({
      pcr: Number(pcr),
      what: pcrMeaning(Number(pcr)),
      claimed: claimed ?? "not quoted",
      expected,
    });
  }
  return differs;
}

function refusal(nearest: Nearest | null): Check {
  const check = { name: "reference-values", ok: false, failure: "refused" } as const;
  if (nearest === null) {
    return { ...check, detail: "no reference value is registered for this platform" };
  }
  const pcrs = nearest.differs.map((d) => `PCR ${d.pcr}`);
  return {
    ...check,
    detail:
      `unknown measurement; the nearest workload is ${nearest.workload}, from which ` +
      `${nearest.differs.map((d) => d.what).join("; ")} ${pcrs.length === 1 ? "differs" : "differ"} (${pcrs.join(", ")})`,
  };
}
