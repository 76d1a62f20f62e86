import { sameBytes, toHex } from "@shelter/base";
import type { CheckList } from "../verdict.ts";
import type { NitroDocument } from "./document.ts";

/**
 * What a relying party expects of a document. Whatever is absent is not compared; the permissions
 * (`allow…`) are refusals unless given.
 */
export interface NitroExpectations {
  /** Empty expects none. */
  readonly nonce?: Uint8Array;
  readonly userData?: Uint8Array;
  readonly publicKey?: Uint8Array;
  /** Allowed values by register: any one of each list. */
  readonly pcrs?: Readonly<Record<number, readonly Uint8Array[]>>;
  readonly moduleIds?: readonly string[];
  /** The oldest the document may be, in seconds, by its own timestamp. */
  readonly maximumAge?: number;
  readonly allowDebug?: boolean;
}

/** Registers that hold the image, its kernel and its application, and zeros in debug mode. */
const IMAGE_PCRS = [0, 1, 2] as const;
const CLOCK_SKEW = 60_000; // milliseconds the module's clock may be ahead

/** Compares a document with what is expected of it. */
export function judgeNitroExpectations(
  document: NitroDocument,
  at: Date,
  expect: NitroExpectations,
  checks: CheckList,
): void {
  const zero = IMAGE_PCRS.filter((i) => document.pcrs.get(i)?.every((b) => b === 0));
  checks.add({
    name: "debug",
    ok: zero.length === 0 || expect.allowDebug === true,
    failure: "refused",
    claimed: zero.length === 0 ? "PCR0 to PCR2 are set" : `PCR${zero.join(", PCR")} zero: debug mode`,
    expected: expect.allowDebug === true ? "debug mode is allowed" : "PCR0 to PCR2 set",
  });
  for (const [name, claimed, expected] of [
    ["nonce", document.nonce, expect.nonce],
    ["user-data", document.userData, expect.userData],
    ["public-key", document.publicKey, expect.publicKey],
  ] as const) {
    if (expected === undefined) continue;
    checks.add({
      name,
      ok: sameBytes(claimed ?? new Uint8Array(), expected),
      failure: "untrusted",
      claimed: claimed === undefined ? "none" : toHex(claimed),
      expected: toHex(expected) || "none",
    });
  }
  for (const [index, list] of Object.entries(expect.pcrs ?? {})) {
    const claimed = document.pcrs.get(Number(index));
    checks.add({
      name: `pcr${index}`,
      ok: claimed !== undefined && list.some((v) => sameBytes(v, claimed)),
      failure: "refused",
      claimed: claimed === undefined ? "absent" : toHex(claimed),
      expected: list.map(toHex).join(" or ") || "none is allowed",
    });
  }
  if (expect.moduleIds !== undefined) {
    checks.add({
      name: "module-id",
      ok: expect.moduleIds.includes(document.moduleId),
      failure: "refused",
      claimed: document.moduleId,
      expected: expect.moduleIds.join(" or ") || "none is allowed",
    });
  }
  if (expect.maximumAge !== undefined) {
    const age = at.getTime() - document.timestamp;
    checks.add({
      name: "age",
      ok: age <= expect.maximumAge * 1000 && age >= -CLOCK_SKEW,
      failure: "expired",
      claimed: new Date(document.timestamp).toISOString(),
      expected: `at most ${expect.maximumAge} s before ${at.toISOString()}`,
    });
  }
}
