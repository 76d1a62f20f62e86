import { createHash, randomBytes } from "node:crypto";
import {
  CheckList,
  checkReferences,
  type EventLog,
  parseCertificate,
  parseTpmEvidence,
  type Registers,
  replay,
  startActivation,
  verifyTpmEvidence,
} from "@shelter/attest";
import {
  fromBase64,
  type Json,
  type JsonObject,
  SecretBytes,
  sameBytes,
  toBase64,
  toHex,
} from "@shelter/base";
import { BrokerError } from "../errors.ts";
import type { Appraisal, Challenge, EvidenceInput, PlatformVerifier } from "./platform.ts";

/** Guests with a TPM: an attestation key is believed only as a key in the TPM of a trusted EK certificate. */
export function tpmPlatform(): PlatformVerifier {
  return { tee: "tpm", platform: "vtpm", challenge, verify };
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
  const parsed = parseTpmEvidence(evidence);
  const verdict = verifyTpmEvidence({
    evidence: parsed,
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
  const checks = new CheckList();
  for (const check of verdict.checks) checks.add(check);
  // Only values the quote covers: what else the guest lists is nobody's word.
  const selected = parsed.quote.pcrSelect.filter((s) => s.hash === "sha256").flatMap((s) => s.pcrs);
  const quoted = new Map([...(parsed.pcrs?.get("sha256") ?? [])].filter(([pcr]) => selected.includes(pcr)));
  checkCoverage(parsed.eventLog, quoted, checks);
  checkTestimony(evidence, quoted.get(TESTIMONY_PCR), checks);
  return {
    verdict: checks.verdict("vtpm", verdict.claims),
    measurements: Object.fromEntries([...quoted].map(([pcr, value]) => [String(pcr), toHex(value)])),
    explain: (reference) => {
      const explained = new CheckList();
      const { quote, pcrs, eventLog } = parsed;
      checkReferences([reference], quote.pcrSelect, pcrs ?? new Map(), eventLog, explained);
      return explained.checks;
    },
  };
}

const FIRMWARE_PCRS = 9; // PCR 0 to 9 are extended before process 1 runs, so the log must account for them

/** Replay compares what the log speaks about; this asks that it speaks about everything that was extended. */
function checkCoverage(log: EventLog | undefined, quoted: Registers, checks: CheckList): void {
  if (log === undefined) return;
  const replayed = replay(log, "sha256");
  const silent = [...quoted]
    .filter(([pcr, value]) => pcr <= FIRMWARE_PCRS && !replayed.has(pcr) && value.some((b) => b !== 0))
    .map(([pcr]) => `PCR ${pcr}`);
  checks.add({
    name: "eventlog-coverage",
    ok: silent.length === 0,
    failure: "untrusted",
    ...(silent.length === 0 ? {} : { detail: `the event log has no events of ${silent.join(", ")}` }),
  });
}

const TESTIMONY_PCR = 12;
const MAX_TESTIMONY = 1024; // characters a guest may say about itself

/**
 * A guest that found something altered says so in PCR 12 (docs/formats.md, "Testimony"). Zero is the
 * only value of a guest that has nothing to report.
 */
function checkTestimony(evidence: Json, pcr: Uint8Array | undefined, checks: CheckList): void {
  const given = (evidence as JsonObject)["guest_report"];
  const said = typeof given === "string" ? given.slice(0, MAX_TESTIMONY) : undefined;
  const refuse = (detail: string) =>
    checks.add({ name: "guest-report", ok: false, failure: "refused", detail });
  if (pcr === undefined) {
    refuse(`PCR ${TESTIMONY_PCR}, where a guest reports what it found, was not quoted`);
  } else if (pcr.every((byte) => byte === 0)) {
    if (given === undefined || given === null)
      checks.add({ name: "guest-report", ok: true, failure: "refused" });
    else refuse("the guest sends a report that it did not measure");
  } else if (said !== undefined && sameBytes(pcr, extendedOnce(said))) {
    // Control characters would reach a terminal.
    refuse(`the guest reports ${said.replaceAll(/[\p{Cc}\p{Cf}]/gu, " ")}`);
  } else {
    refuse(`PCR ${TESTIMONY_PCR} was extended, and not with what the guest reports`);
  }
}

function extendedOnce(text: string): Uint8Array {
  const sha256 = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest();
  return sha256(Buffer.concat([Buffer.alloc(32), sha256(Buffer.from(text))]));
}

function refused(name: string, detail: string): Appraisal {
  const check = { name, ok: false, failure: "untrusted", detail } as const;
  return {
    verdict: { platform: "vtpm", outcome: "untrusted", checks: [check], claims: {}, missing: [] },
    measurements: {},
    explain: () => [],
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
