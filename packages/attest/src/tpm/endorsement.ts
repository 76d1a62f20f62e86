import { createHmac, type KeyObject, timingSafeEqual } from "node:crypto";
import { type SecretBytes, sameBytes, toHex } from "@shelter/base";
import type { CheckList } from "../verdict.ts";
import {
  type Certificate,
  type Crl,
  contextTag,
  DerReader,
  EXTENSION,
  keyObject,
  readName,
  TAG,
  verifyChain,
} from "../x509/index.ts";
import { TpmError } from "./error.ts";
import { publicKeyOf, type TpmPublic } from "./public.ts";

/** tcg-kp-EKCertificate: what an EK certificate must list as extended key usage. */
export const EK_CERTIFICATE_USAGE = "2.23.133.8.1";

/** Maker, model and version of a TPM, out of its EK certificate. */
export interface TpmIdentity {
  readonly manufacturer: string;
  readonly model: string;
  readonly version: string;
}

/** The TPM's identity in subjectAltName (TCG EK Credential Profile 2.5, section 3.2.9); undefined without one. */
export function tpmIdentity(certificate: Certificate): TpmIdentity | undefined {
  const extension = certificate.extensions.get(EXTENSION.subjectAltName);
  if (extension === undefined) return undefined;
  const names = new DerReader(extension.value, "subjectAltName").enter(TAG.sequence);
  while (names.more) {
    const name = names.next();
    if (name.tag !== contextTag(4)) continue;
    const directory = readName(
      new DerReader(name.content, "subjectAltName").next(TAG.sequence),
      "subjectAltName",
    );
    const of = (oid: string): string => directory.attributes.find((a) => a.oid === oid)?.value ?? "";
    const identity = {
      manufacturer: of("2.23.133.2.1"),
      model: of("2.23.133.2.2"),
      version: of("2.23.133.2.3"),
    };
    if (identity.manufacturer !== "") return identity;
  }
  return undefined;
}

/** What an EK certificate is judged against. */
export interface EndorsementRequest {
  readonly certificate: Certificate;
  readonly intermediates?: readonly Certificate[];
  readonly roots: readonly Certificate[];
  readonly crls?: readonly Crl[];
  readonly at: Date;
  readonly checks: CheckList;
}

/**
 * Verifies an EK certificate up to one of the roots, with the uses and the identity the TCG profile
 * asks for. Gives the endorsement key when everything held.
 */
export function verifyEndorsement(request: EndorsementRequest): KeyObject | undefined {
  const { certificate, checks } = request;
  const chain = verifyChain({
    leaf: certificate,
    intermediates: request.intermediates ?? [],
    anchors: request.roots,
    at: request.at,
    crls: request.crls ?? [],
    leafExtendedKeyUsage: EK_CERTIFICATE_USAGE,
    leafKeyUsage: certificate.publicKey.kind === "ec" ? "keyAgreement" : "keyEncipherment",
    checks,
    label: "ek",
  });
  const leafOnly = checks.add({
    name: "ek-not-a-ca",
    ok: certificate.basicConstraints?.ca !== true,
    failure: "untrusted",
  });
  const identity = tpmIdentity(certificate);
  const named = checks.add({
    name: "ek-identity",
    ok: identity !== undefined,
    failure: "untrusted",
    claimed:
      identity === undefined ? "none" : `${identity.manufacturer} ${identity.model} ${identity.version}`,
    ...(identity === undefined ? { detail: "subjectAltName names no TPM manufacturer" } : {}),
  });
  const key = keyObject(certificate.publicKey);
  const usable = checks.add({
    name: "ek-key",
    ok: key !== undefined,
    failure: "untrusted",
    claimed: certificate.publicKey.name,
  });
  return chain.trusted && leafOnly && named && usable ? key : undefined;
}

/** Attributes a key needs so that its signature over a quote means that a TPM saw those PCRs. */
const AK_MUST = ["restricted", "sign", "fixedTPM", "fixedParent", "sensitiveDataOrigin"] as const;

/** Checks that a public area is that of an attestation key: restricted, signing only, made in and bound to its TPM. */
export function checkAttestationKey(area: TpmPublic, checks: CheckList): boolean {
  const lacking = AK_MUST.filter((name) => !area.attributes.has(name));
  const decrypts = area.attributes.has("decrypt");
  const problem = [
    ...(lacking.length > 0 ? [`lacks ${lacking.join(", ")}`] : []),
    ...(decrypts ? ["has decrypt"] : []),
  ].join(" and ");
  return checks.add({
    name: "ak-attributes",
    ok: problem === "",
    failure: "untrusted",
    claimed: [...area.attributes].join(" "),
    expected: AK_MUST.join(" "),
    ...(problem === "" ? {} : { detail: `the attestation key ${problem}` }),
  });
}

/** Whether a TPM public area and a SubjectPublicKeyInfo are the same key. */
export function sameKey(area: TpmPublic, key: KeyObject): boolean {
  const form = { format: "der", type: "spki" } as const;
  return sameBytes(publicKeyOf(area).export(form), key.export(form));
}

/** What a guest sends to show that it activated the credential: HMAC-SHA256(secret, report data). */
export function activationProof(secret: SecretBytes, reportData: Uint8Array): Uint8Array {
  return createHmac("sha256", secret.reveal()).update(reportData).digest();
}

/** Checks the proof of credential activation, in constant time. */
export function checkActivation(
  proof: Uint8Array | undefined,
  secret: SecretBytes,
  reportData: Uint8Array,
  checks: CheckList,
): boolean {
  if (secret.reveal().length < 16)
    throw new TpmError("TPM_UNSUPPORTED", "an activation secret of under 16 bytes");
  const expected = activationProof(secret, reportData);
  const ok = proof !== undefined && proof.length === expected.length && timingSafeEqual(proof, expected);
  return checks.add({
    name: "ak-activation",
    ok,
    failure: "untrusted",
    // The expected value stays out of the record: whoever learns it could claim the activation.
    claimed: proof === undefined ? "none" : toHex(proof),
    ...(ok
      ? {}
      : { detail: "the attestation key is not shown to be in the TPM of the endorsement certificate" }),
  });
}
