import { describe, ShelterError, toHex } from "@shelter/base";
import { COSE_ALGORITHMS, type EcKey, parseSec1Point, verifyCoseSign1 } from "../cbor/index.ts";
import { CheckList, type Verdict } from "../verdict.ts";
import { type Certificate, parseCertificate, parseCertificates, verifyChain } from "../x509/index.ts";
import { type NitroDocument, parseNitroDocument } from "./document.ts";
import { judgeNitroExpectations, type NitroExpectations } from "./expect.ts";
import { AWS_NITRO_ROOT } from "./root.ts";

/** A document, and what is expected of it. */
export interface NitroInput {
  readonly document: Uint8Array;
  /** The one trust anchor to use instead of AWS's root, DER or PEM. */
  readonly root?: Uint8Array;
  /** The time to judge at. The signing certificate lives three hours. */
  readonly at: Date;
  readonly expect?: NitroExpectations;
}

/** Judges an AWS Nitro attestation document. Pure: no clock, no network. */
export function verifyNitro(input: NitroInput): Verdict {
  const checks = new CheckList();
  const document = attempt(checks, "document-form", () => parseNitroDocument(input.document));
  if (document === undefined) return checks.verdict("nitro", {});
  checks.add({ name: "document-form", ok: true, failure: "malformed", claimed: document.moduleId });
  const certificates = attempt(checks, "certificate-form", () => readCertificates(document, input.root));
  if (certificates !== undefined) judgeSignature(document, certificates, input.at, checks);
  judgeNitroExpectations(document, input.at, input.expect ?? {}, checks);
  return checks.verdict("nitro", nitroClaims(document));
}

/** What is malformed becomes a check; what is not our own named error is our own mistake. */
function attempt<T>(checks: CheckList, name: string, parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof ShelterError)) throw error;
    checks.add({ name, ok: false, failure: "malformed", detail: describe(error) });
    return undefined;
  }
}

interface Certificates {
  readonly leaf: Certificate;
  readonly intermediates: readonly Certificate[];
  readonly anchors: readonly Certificate[];
}

function readCertificates(document: NitroDocument, root: Uint8Array | undefined): Certificates {
  return {
    leaf: parseCertificate(document.certificate, "certificate"),
    intermediates: document.cabundle.map((der, i) => parseCertificate(der, `cabundle ${i}`)),
    anchors: parseCertificates(root ?? AWS_NITRO_ROOT, "root"),
  };
}

function judgeSignature(
  document: NitroDocument,
  { leaf, intermediates, anchors }: Certificates,
  at: Date,
  checks: CheckList,
): void {
  verifyChain({
    leaf,
    intermediates,
    anchors,
    at,
    checks,
    label: "certificate",
    leafKeyUsage: "digitalSignature",
  });
  const { cose } = document;
  const es384 = COSE_ALGORITHMS.find((a) => a.name === "ES384");
  checks.add({
    name: "signature-algorithm",
    ok: cose.algorithm === es384,
    failure: "untrusted",
    claimed: cose.algorithm?.name ?? String(cose.alg),
    expected: "ES384",
  });
  let key: EcKey | undefined;
  let detail: string | undefined;
  try {
    if (leaf.publicKey.kind === "ec") key = parseSec1Point(leaf.publicKey.key, "certificate key");
  } catch (error) {
    if (!(error instanceof ShelterError)) throw error;
    detail = describe(error);
  }
  checks.add({
    name: "signature",
    ok: key !== undefined && cose.algorithm === es384 && verifyCoseSign1(cose, key),
    failure: "untrusted",
    claimed: `${cose.algorithm?.name ?? cose.alg} by ${leaf.subject.text} (${leaf.publicKey.name})`,
    ...(detail === undefined ? {} : { detail }),
  });
}

/** The values of a document under AWS's names, hex for bytes; what the enclave left out is empty. */
function nitroClaims(document: NitroDocument): Readonly<Record<string, unknown>> {
  const shown = (bytes: Uint8Array | undefined): string => (bytes === undefined ? "" : toHex(bytes));
  return {
    module_id: document.moduleId,
    timestamp_ms: document.timestamp,
    digest: document.digest,
    pcrs: Object.fromEntries(
      [...document.pcrs].sort(([a], [b]) => a - b).map(([i, v]) => [String(i), toHex(v)]),
    ),
    nonce: shown(document.nonce),
    user_data: shown(document.userData),
    public_key: shown(document.publicKey),
    cabundle_len: document.cabundle.length,
  };
}
