import type { KeyObject } from "node:crypto";
import { type SecretBytes, sameBytes, toHex } from "@shelter/base";
import { bootClaims, checkContents, checkReplay } from "../eventlog/index.ts";
import { CheckList, type Verdict } from "../verdict.ts";
import type { Certificate, Crl } from "../x509/index.ts";
import {
  checkActivation,
  checkAttestationKey,
  sameKey,
  tpmIdentity,
  verifyEndorsement,
} from "./endorsement.ts";
import type { TpmEvidence } from "./evidence.ts";
import { verifyTpmQuote } from "./quote.ts";
import { checkReferences, type PcrReference } from "./reference.ts";
import { signatureName } from "./signature.ts";

/** Why an attestation key may be believed to be a TPM's. */
export type AttestationKeyTrust =
  /** It is in the TPM of an EK certificate that chains to a root, shown by credential activation. */
  | {
      readonly by: "endorsement";
      readonly roots: readonly Certificate[];
      readonly intermediates?: readonly Certificate[];
      readonly crls?: readonly Crl[];
      /** The secret that `makeCredential` wrapped for this session's endorsement key and AK name. */
      readonly secret: SecretBytes;
      /** The EK certificate and AK name the credential was made for; evidence about others is refused. */
      readonly ekCertificate: Uint8Array;
      readonly akName: Uint8Array;
    }
  /** It is one of these keys, known from before (SubjectPublicKeyInfo, DER). */
  | { readonly by: "pinned"; readonly keys: readonly Uint8Array[] }
  /** The caller vouches for it: other evidence names it, or the key itself is what was given. */
  | { readonly by: "caller" };

/** What TPM evidence is judged against. */
export interface TpmExpectations {
  /** Allowed states; undefined leaves the PCRs to the caller, an empty list refuses. */
  readonly references?: readonly PcrReference[];
  /** Whether an event log must come along; default false. */
  readonly requireEventLog?: boolean;
  /** Secure boot must be in this state, by an event log that replays. */
  readonly secureBoot?: boolean;
}

/** One judgement of TPM evidence. */
export interface TpmRequest {
  readonly evidence: TpmEvidence;
  /** The report data of the session; the quote carries its first 32 bytes as nonce. */
  readonly reportData?: Uint8Array;
  /** The quote's nonce itself, where no report data stands behind it. */
  readonly nonce?: Uint8Array;
  readonly trust: AttestationKeyTrust;
  readonly expectations?: TpmExpectations;
  readonly at: Date;
}

const NONCE_BYTES = 32; // Trustee cuts the report data to this for TPM quotes

/** Judges TPM evidence: attestation key, quote, PCRs, event log, reference values. */
export function verifyTpmEvidence(request: TpmRequest): Verdict {
  const { evidence, trust } = request;
  const checks = new CheckList();
  const nonce = request.nonce ?? request.reportData?.subarray(0, NONCE_BYTES);
  judgeAttestationKey(request, checks);
  verifyTpmQuote({
    quote: evidence.quote,
    signature: evidence.signature,
    key: evidence.akPublic,
    ...(nonce === undefined ? {} : { nonce }),
    ...(evidence.pcrs === undefined ? {} : { pcrs: evidence.pcrs }),
    checks,
  });
  if (nonce === undefined && trust.by !== "caller") {
    checks.add({ name: "quote-nonce", ok: false, failure: "refused", detail: "no nonce to compare with" });
  }
  judgeEventLog(request, checks);
  judgeExpectations(request, checks);
  return checks.verdict("vtpm", claimsOf(evidence));
}

function judgeAttestationKey(request: TpmRequest, checks: CheckList): void {
  const { evidence, trust } = request;
  const area = evidence.akTpmPublic;
  if (area !== undefined) {
    checks.add({ name: "ak-public", ok: sameKey(area, evidence.akPublic), failure: "untrusted" });
    checkAttestationKey(area, checks);
  }
  switch (trust.by) {
    case "caller":
      return;
    case "pinned":
      checks.add({
        name: "ak-pinned",
        ok: trust.keys.some((key) => sameBytes(key, spkiOf(evidence.akPublic))),
        failure: "untrusted",
        claimed: toHex(spkiOf(evidence.akPublic)),
      });
      return;
    case "endorsement":
      break;
    default:
      trust satisfies never;
  }
  if (trust.by !== "endorsement") return;
  const named = area !== undefined && sameBytes(area.name, trust.akName);
  checks.add({
    name: "ak-name",
    ok: named,
    failure: "untrusted",
    claimed: area === undefined ? "none" : toHex(area.name),
    expected: toHex(trust.akName),
    ...(named ? {} : { detail: "the credential was made for another attestation key" }),
  });
  const certificate = evidence.ekCertificate;
  const same = certificate !== undefined && sameBytes(certificate.raw, trust.ekCertificate);
  checks.add({
    name: "ek-certificate",
    ok: same,
    failure: "untrusted",
    ...(same
      ? {}
      : {
          detail:
            certificate === undefined
              ? "no endorsement certificate came along"
              : "the credential was made for another endorsement certificate",
        }),
  });
  if (certificate !== undefined) {
    verifyEndorsement({
      certificate,
      roots: trust.roots,
      ...(trust.intermediates === undefined ? {} : { intermediates: trust.intermediates }),
      ...(trust.crls === undefined ? {} : { crls: trust.crls }),
      at: request.at,
      checks,
    });
  }
  if (request.reportData === undefined) {
    checks.add({ name: "ak-activation", ok: false, failure: "refused", detail: "no report data to bind to" });
    return;
  }
  checkActivation(evidence.activation, trust.secret, request.reportData, checks);
}

function spkiOf(key: KeyObject): Uint8Array {
  return key.export({ format: "der", type: "spki" });
}

function judgeEventLog(request: TpmRequest, checks: CheckList): void {
  const { eventLog, pcrs, quote } = request.evidence;
  if (eventLog === undefined) {
    if (request.expectations?.requireEventLog === true) {
      checks.add({ name: "eventlog", ok: false, failure: "refused", detail: "no event log came along" });
    }
    return;
  }
  // Only values the quote vouches for can vouch for the log.
  for (const { hash, pcrs: numbers } of quote.pcrSelect) {
    const values = pcrs?.get(hash);
    if (!eventLog.banks.includes(hash) || values === undefined) continue;
    const quoted = new Map([...values].filter(([pcr]) => numbers.includes(pcr)));
    checkReplay(eventLog, hash, quoted, checks);
  }
  if (!checks.checks.some((c) => c.name === "eventlog-replay")) {
    checks.add({
      name: "eventlog-replay",
      ok: false,
      failure: "untrusted",
      detail: "no quoted PCR vouches for the event log",
    });
  }
  checkContents(eventLog, checks);
}

function judgeExpectations(request: TpmRequest, checks: CheckList): void {
  const { evidence, expectations } = request;
  if (expectations?.references !== undefined) {
    const values = evidence.pcrs ?? new Map();
    checkReferences(expectations.references, evidence.quote.pcrSelect, values, evidence.eventLog, checks);
  }
  if (expectations?.secureBoot !== undefined) {
    const state =
      evidence.eventLog === undefined
        ? undefined
        : bootClaims(evidence.eventLog, quotedPcrs(evidence)).secureBoot;
    checks.add({
      name: "secure-boot",
      ok: state === expectations.secureBoot,
      failure: "refused",
      claimed: state === undefined ? "not known" : state ? "on" : "off",
      expected: expectations.secureBoot ? "on" : "off",
    });
  }
}

function claimsOf(evidence: TpmEvidence): Record<string, unknown> {
  const { quote, signature, pcrs, eventLog, ekCertificate } = evidence;
  const banks: Record<string, Record<string, string>> = {};
  for (const { hash, pcrs: numbers } of quote.pcrSelect) {
    const values: Record<string, string> = {};
    for (const pcr of numbers) {
      const value = pcrs?.get(hash)?.get(pcr);
      if (value !== undefined) values[pcr] = toHex(value);
    }
    if (Object.keys(values).length > 0) banks[hash] = values;
  }
  return {
    nonce: toHex(quote.extraData),
    qualified_signer: toHex(quote.qualifiedSigner),
    pcr_selection: soleOrList(quote.pcrSelect.map((s) => [s.hash, s.pcrs])),
    pcr_digest: toHex(quote.pcrDigest),
    pcrs: banks,
    firmware_version: quote.firmwareVersion.toString(16).padStart(16, "0"),
    clock: Number(quote.clock),
    reset_count: quote.resetCount,
    restart_count: quote.restartCount,
    safe: quote.safe,
    sig_alg: signatureName(signature),
    ...(eventLog === undefined ? {} : { boot: bootClaims(eventLog, quotedPcrs(evidence)) }),
    ...(ekCertificate === undefined ? {} : { tpm: tpmIdentity(ekCertificate) }),
  };
}

/** PCRs the quote vouches for; what a log says about others is the guest's word. */
function quotedPcrs({ quote }: TpmEvidence): ReadonlySet<number> {
  return new Set(quote.pcrSelect.flatMap((s) => s.pcrs));
}

function soleOrList<T>(list: readonly T[]): T | readonly T[] {
  const [first] = list;
  return list.length === 1 && first !== undefined ? first : list;
}
