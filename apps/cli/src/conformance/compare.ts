import type { Outcome } from "@shelter/attest";
import type { Json } from "@shelter/base";

/** A verdict in the corpus's three words. */
export type CorpusVerdict = "valid" | "invalid" | "policy";

/**
 * Ours in the corpus's words: what holds is `valid`, what is authentic but not to be relied on (by
 * policy, or because collateral is missing) is `policy`, everything else `invalid`.
 */
export function corpusVerdict(outcome: Outcome): CorpusVerdict {
  switch (outcome) {
    case "accepted":
      return "valid";
    case "refused":
    case "incomplete":
      return "policy";
    case "malformed":
    case "untrusted":
    case "expired":
      return "invalid";
    default:
      return outcome satisfies never;
  }
}

/**
 * Paths of expected values that the claims do not show. Expected objects may say less than the
 * claims, lists must match wholly, hex in either case, and `null` means that there is no value.
 */
export function differingFields(expected: Json, claimed: unknown, path = ""): string[] {
  if (expected === null) return claimed === undefined || claimed === null ? [] : [path];
  if (Array.isArray(expected)) {
    if (!Array.isArray(claimed) || claimed.length !== expected.length) return [path];
    return expected.flatMap((value: Json, i: number) => differingFields(value, claimed[i], `${path}[${i}]`));
  }
  if (typeof expected === "object") {
    if (typeof claimed !== "object" || claimed === null) return [path];
    const members = claimed as Readonly<Record<string, unknown>>;
    return Object.entries(expected).flatMap(([key, value]) =>
      value === undefined ? [] : differingFields(value, members[key], path === "" ? key : `${path}.${key}`),
    );
  }
  // The corpus names signature schemes with their hash or without.
  if (path.endsWith("sig_alg") && typeof claimed === "string" && typeof expected === "string") {
    if (`${claimed}-`.toLowerCase().startsWith(`${expected}-`.toLowerCase())) return [];
  }
  return same(expected, claimed) ? [] : [`${path} (expected ${shown(expected)}, have ${shown(claimed)})`];
}

function same(expected: string | number | boolean, claimed: unknown): boolean {
  if (typeof expected === "boolean") return claimed === expected || claimed === (expected ? 1 : 0);
  if (claimed === undefined || claimed === null) return false;
  return String(claimed).toLowerCase() === String(expected).toLowerCase();
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "nothing";
  return text.length > 48 ? `${text.slice(0, 48)}…` : text;
}
