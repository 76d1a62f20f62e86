import type { KeyObject } from "node:crypto";
import { sameBytes, toHex } from "@shelter/base";
import type { CheckList } from "../verdict.ts";
import { digest, hashAvailable } from "./algorithm.ts";
import { type PcrBanks, type PcrSelection, selectedPcrs, TPM_GENERATED, type TpmQuote } from "./attest.ts";
import { signatureName, type TpmSignature, verifyTpmSignature } from "./signature.ts";

/** What is said about one quote, and what is expected of it. */
export interface QuoteRequest {
  readonly quote: TpmQuote;
  readonly signature: TpmSignature;
  readonly key: KeyObject;
  /** What `extraData` must be; undefined to leave freshness to the caller. */
  readonly nonce?: Uint8Array;
  /** Values claimed for the quoted PCRs; undefined when none came along, and then none can be believed. */
  readonly pcrs?: PcrBanks;
  readonly checks: CheckList;
  /** Prefix of the names of the checks; default `quote`. */
  readonly label?: string;
}

/**
 * Verifies a quote: signed by the key, made by a TPM, for this nonce, over these PCR values. Whether
 * the key is a TPM's own is another question (`judgeAttestationKey`).
 */
export function verifyTpmQuote(request: QuoteRequest): boolean {
  const { quote, signature, key, checks } = request;
  const label = request.label ?? "quote";
  const results = [
    checks.add({
      name: `${label}-signature`,
      ok: verifyTpmSignature(key, signature, quote.raw),
      failure: "untrusted",
      claimed: signatureName(signature),
      ...(signature.hash === "sha1" ? { detail: "signatures over SHA-1 are not believed" } : {}),
    }),
    checks.add({
      name: `${label}-magic`,
      ok: quote.magic === TPM_GENERATED,
      failure: "untrusted",
      claimed: quote.magic.toString(16),
      expected: TPM_GENERATED.toString(16),
      ...(quote.magic === TPM_GENERATED ? {} : { detail: "a TPM did not make this structure" }),
    }),
  ];
  if (request.nonce !== undefined) {
    results.push(
      checks.add({
        name: `${label}-nonce`,
        ok: sameBytes(quote.extraData, request.nonce),
        failure: "untrusted",
        claimed: toHex(quote.extraData),
        expected: toHex(request.nonce),
      }),
    );
  }
  const selected = quote.pcrSelect.some((s) => s.pcrs.length > 0);
  results.push(
    checks.add({
      name: `${label}-pcr-selection`,
      ok: selected,
      failure: "untrusted",
      claimed: selectionText(quote.pcrSelect),
      ...(selected ? {} : { detail: "the quote speaks about no PCR" }),
    }),
  );
  if (request.pcrs !== undefined) results.push(pcrDigestHolds(request, request.pcrs, label));
  return results.every((ok) => ok);
}

function pcrDigestHolds(request: QuoteRequest, pcrs: PcrBanks, label: string): boolean {
  const { quote, signature, checks } = request;
  const values = selectedPcrs(quote.pcrSelect, pcrs);
  // TPM2_Quote digests the PCRs with the hash of the signing scheme (part 3, section 18.4).
  const computed =
    values === undefined || !hashAvailable(signature.hash) ? undefined : digest(signature.hash, ...values);
  return checks.add({
    name: `${label}-pcr-digest`,
    ok: computed !== undefined && sameBytes(computed, quote.pcrDigest),
    failure: "untrusted",
    claimed: computed === undefined ? "values for other PCRs" : toHex(computed),
    expected: toHex(quote.pcrDigest),
    ...(values === undefined ? { detail: "the PCR values given do not cover the quoted PCRs" } : {}),
  });
}

/** `sha256: 0, 1, 7` for people. */
export function selectionText(selections: readonly PcrSelection[]): string {
  return selections.map((s) => `${s.hash}: ${s.pcrs.join(", ") || "none"}`).join("; ");
}
