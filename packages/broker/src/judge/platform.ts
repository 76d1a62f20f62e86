import type { Check, Verdict } from "@shelter/attest";
import type { Json, JsonObject } from "@shelter/base";
import type { ReferenceValue } from "../api.ts";

/** What `/auth` answers for a platform, and what it must be given back at `/attest`. */
export interface Challenge {
  /** `extra-params` of the answer. */
  readonly reply: Json;
  /** Kept sealed in the session. */
  readonly keep: JsonObject | null;
}

/** Everything a platform's verifier may look at. */
export interface EvidenceInput {
  readonly evidence: Json;
  /** SHA-384 over nonce, key and additional evidence. */
  readonly reportData: Uint8Array;
  readonly keep: JsonObject | null;
  /** DER certificates that chains may end in. */
  readonly anchors: readonly Uint8Array[];
  readonly now: Date;
}

/** Authenticated evidence: a verdict, and the measurements reference values are compared with. */
export interface Appraisal {
  readonly verdict: Verdict;
  /** PCR number to hex value; only to be believed when the verdict accepts. */
  readonly measurements: Readonly<Record<string, string>>;
  /** Why it differs from a reference value, component by component as far as the evidence tells. */
  explain(reference: ReferenceValue): readonly Check[];
}

/** One TEE type: the broker parses no evidence itself, it asks one of these. */
export interface PlatformVerifier {
  /** The name on the wire. */
  readonly tee: string;
  /** The name in reference values. */
  readonly platform: string;
  challenge(extraParams: Json): Challenge;
  verify(input: EvidenceInput): Appraisal | Promise<Appraisal>;
}
