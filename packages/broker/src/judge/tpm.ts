import { randomBytes } from "node:crypto";
import { parseCertificate, parseTpmEvidence, startActivation, verifyTpmEvidence } from "@shelter/attest";
import { fromBase64, type Json, type JsonObject, SecretBytes, toBase64 } from "@shelter/base";
import { BrokerError } from "../errors.ts";
import type { Appraisal, Challenge, EvidenceInput, PlatformVerifier } from "./platform.ts";
import { REQUIRED_PCRS } from "./references.ts";

/** Guests with a TPM: an attestation key is believed only as a key in the TPM of a trusted EK certificate. */
export function tpmPlatform(): PlatformVerifier {
  return { tee: "tpm", platform: "vtpm", required: REQUIRED_PCRS["vtpm"] ?? [], challenge, verify };
}

/** Credential activation for the keys the guest names. A client that names none gets Trustee's plain challenge. */
function challenge(extraParams: Json): Challenge {
  const asked = member(extraParams, "tpm");
  if (asked === undefined) return { reply: "", keep: null };
  const activation = startActivation(
    decode(asked, "ek_certificate"),
    decode(asked, "ak_tpm_public"),
    (count) => new Uint8Array(randomBytes(count)),
  );
  return {
    reply: {
      tpm: {
        credential_blob: toBase64(activation.credential.credentialBlob),
        encrypted_secret: toBase64(activation.credential.encryptedSecret),
      },
    },
    keep: {
      secret: toBase64(activation.secret.reveal()),
      ek_certificate: toBase64(activation.ekCertificate),
      ak_name: toBase64(activation.akName),
    },
  };
}

function verify({ evidence, reportData, keep, anchors, now }: EvidenceInput): Appraisal {
  if (keep === null) {
    return refused(
      "ak-activation",
      "/auth carried no extra-params.tpm, so the attestation key is bound to no TPM",
    );
  }
  if (anchors.length === 0) {
    return refused("ek-anchor", "no trust anchor for endorsement certificates is configured at this broker");
  }
  const verdict = verifyTpmEvidence({
    evidence: parseTpmEvidence(evidence),
    reportData,
    trust: {
      by: "endorsement",
      roots: anchors.map((der) => parseCertificate(der, "trust anchor")),
      secret: new SecretBytes(decode(keep, "secret")),
      ekCertificate: decode(keep, "ek_certificate"),
      akName: decode(keep, "ak_name"),
    },
    expectations: { requireEventLog: true },
    at: now,
  });
  // Only PCRs the quote covers are in the claims; what is not there cannot match a reference value.
  const banks = verdict.claims["pcrs"] as Readonly<Record<string, Readonly<Record<string, string>>>>;
  return { verdict, measurements: banks["sha256"] ?? {} };
}

function refused(name: string, detail: string): Appraisal {
  const check = { name, ok: false, failure: "untrusted", detail } as const;
  return {
    verdict: { platform: "vtpm", outcome: "untrusted", checks: [check], claims: {}, missing: [] },
    measurements: {},
  };
}

function member(value: Json | undefined, key: string): JsonObject | undefined {
  if (value === undefined || value === null || typeof value !== "object" || Array.isArray(value))
    return undefined;
  const found = (value as JsonObject)[key];
  if (found === undefined || found === null) return undefined;
  if (typeof found !== "object" || Array.isArray(found)) {
    throw new BrokerError("REQUEST_MALFORMED", "malformed", `extra-params.${key} is not an object`);
  }
  return found as JsonObject;
}

function decode(object: JsonObject, key: string): Uint8Array {
  const value = object[key];
  if (typeof value !== "string") throw new BrokerError("REQUEST_MALFORMED", "malformed", `${key} is missing`);
  return fromBase64(value);
}
