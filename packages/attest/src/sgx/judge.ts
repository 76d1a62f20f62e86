import { createHash } from "node:crypto";
import { describe, ShelterError, sameBytes, toHex } from "@shelter/base";
import type { Check, CheckList } from "../verdict.ts";
import {
  type Certificate,
  type Crl,
  isPem,
  type Name,
  parseCertificate,
  parseCertificates,
  parsePemBlocks,
  verifyChain,
} from "../x509/index.ts";
import { DcapCollateral, type DcapFiles } from "./collateral.ts";
import { certificateP256Key, p256Key, verifyP256 } from "./ecdsa.ts";
import { DcapError } from "./error.ts";
import { describePpidData, type Pck, readPck, SGX_EXTENSION, upperHex } from "./pck.ts";
import type { QeIdentity } from "./qe-identity.ts";
import type { Quote } from "./quote.ts";
import { INTEL_SGX_ROOT_CA } from "./roots.ts";
import type { TcbInfo } from "./tcb-info.ts";
import { concludeTcb, type TcbConclusion, type TcbStatus } from "./tcb-status.ts";

/** What is expected of the platform under a quote, enclave or trust domain alike. */
export interface DcapExpectations {
  /** TCB statuses that are good enough besides `UpToDate`. `Revoked` and unsupported ones never are. */
  readonly allowTcbStatuses?: readonly TcbStatus[];
  readonly minimumTcbEvaluationDataNumber?: number;
}

/** Everything about a quote but what it says about the enclave or trust domain. */
export interface DcapInput {
  readonly quote: Uint8Array;
  /** Files, or what was parsed from them before. */
  readonly collateral?: DcapFiles | DcapCollateral;
  /** The one trust anchor to use instead of Intel's root. */
  readonly root?: Uint8Array;
  /** The time to judge at. */
  readonly at: Date;
}

/** What judging platform and signatures gave. */
export interface DcapFindings {
  readonly pck: Pck | undefined;
  readonly tcb: TcbConclusion | undefined;
  readonly collateral: DcapCollateral | undefined;
}

let intelRoot: readonly Certificate[] | undefined;

/** Records data that does not have its form; anything but our own named errors is our own mistake. */
export function recordMalformed(checks: CheckList, name: string, error: unknown): void {
  if (!(error instanceof ShelterError)) throw error;
  checks.add({ name, ok: false, failure: "malformed", detail: describe(error) });
}

/** Judges the signatures of a quote, its platform's certificates and its TCB. */
export function judgeDcap(
  quote: Quote,
  input: DcapInput,
  expect: DcapExpectations,
  checks: CheckList,
): DcapFindings {
  judgeAttestationKey(quote, checks);
  let collateral: DcapCollateral;
  let anchors: readonly Certificate[];
  let carried: readonly Certificate[];
  let pck: Pck | undefined;
  try {
    const given = input.collateral ?? {};
    collateral = given instanceof DcapCollateral ? given : new DcapCollateral(given);
    intelRoot ??= parseCertificates(Buffer.from(INTEL_SGX_ROOT_CA), "intel root");
    anchors = input.root === undefined ? intelRoot : parseCertificates(input.root, "root");
    carried = carriedCertificates(quote, [...anchors, ...collateral.intermediates]);
    pck = findPck([...carried, ...collateral.pckChain]);
  } catch (error) {
    recordMalformed(checks, "collateral-form", error);
    return { pck: undefined, tcb: undefined, collateral: undefined };
  }
  const platform = new Platform(collateral, carried, anchors, input.at, checks);
  if (pck === undefined) {
    checks.miss(`pck certificate for ${describePpid(quote)}`);
  } else {
    platform.judgePck(pck, quote);
  }
  platform.judgeTcbInfo(pck, quote);
  platform.judgeQeIdentity(quote);
  const { tcbInfo, qeIdentity } = collateral;
  let tcb: TcbConclusion | undefined;
  if (pck !== undefined && tcbInfo !== undefined) {
    const td = quote.body.kind === "sgx" ? undefined : quote.body.report;
    // TCB info of the other kind has no levels to compare with; that it does not fit was recorded.
    if ((td === undefined) === (tcbInfo.id === "SGX")) {
      tcb = concludeTcb(tcbInfo, pck, qeIdentity, quote.qeReport, td);
      judgeStatus(tcb, expect, checks);
    }
  }
  judgeEvaluationNumber(tcbInfo, qeIdentity, expect, checks);
  return { pck, tcb, collateral };
}

/** The certificates a quote carries. Those that are known byte for byte are not parsed again. */
function carriedCertificates(quote: Quote, known: readonly Certificate[]): readonly Certificate[] {
  const { type, data } = quote.certification;
  if (type < 4) return [];
  const certificates = isPem(data)
    ? parsePemBlocks(Buffer.from(data).toString("latin1"), "pck chain").map(({ label, der }) => {
        if (label !== "CERTIFICATE") throw new DcapError("PCK_MALFORMED", `pck chain: a ${label} in it`);
        return known.find((c) => sameBytes(c.raw, der)) ?? parseCertificate(der, "pck chain");
      })
    : parseCertificates(data, "pck chain");
  if (type === 4 && certificates.length !== 1) {
    throw new DcapError(
      "PCK_MALFORMED",
      `certification data of type 4 with ${certificates.length} certificates`,
    );
  }
  return certificates;
}

/** Documents whose signature was verified before, and by which key. */
const verified = new WeakMap<TcbInfo | QeIdentity, WeakMap<Certificate, boolean>>();

function documentSignedBy(document: TcbInfo | QeIdentity, signer: Certificate): boolean {
  const results = verified.get(document) ?? new WeakMap<Certificate, boolean>();
  verified.set(document, results);
  const result =
    results.get(signer) ?? verifyP256(certificateP256Key(signer), document.signedBytes, document.signature);
  results.set(signer, result);
  return result;
}

function describePpid(quote: Quote): string {
  try {
    return describePpidData(quote.certification.type, quote.certification.data);
  } catch {
    return "a quote that does not name its platform";
  }
}

function findPck(certificates: readonly Certificate[]): Pck | undefined {
  const leaves = certificates.filter((c) => c.extensions.has(SGX_EXTENSION));
  const [leaf, ...others] = leaves;
  if (leaf === undefined) return undefined;
  if (others.some((c) => !sameBytes(c.raw, leaf.raw))) {
    throw new DcapError("PCK_MALFORMED", "pck chain: more than one pck certificate");
  }
  return readPck(leaf);
}

function judgeAttestationKey(quote: Quote, checks: CheckList): void {
  checks.add({
    name: "quote-signature",
    ok: verifyP256(p256Key(quote.attestationKey), quote.signed, quote.signature),
    failure: "untrusted",
    claimed: "ECDSA P-256 with SHA-256 by the attestation key",
  });
  const due = createHash("sha256").update(quote.attestationKey).update(quote.qeAuthData).digest();
  checks.add({
    name: "qe-report-data",
    ok: sameBytes(quote.qeReport.reportData.subarray(0, 32), due),
    failure: "untrusted",
    claimed: toHex(quote.qeReport.reportData.subarray(0, 32)),
    expected: `${toHex(due)}, the digest of attestation key and authentication data`,
  });
}

function judgeStatus(tcb: TcbConclusion, expect: DcapExpectations, checks: CheckList): void {
  const never =
    tcb.status === "Revoked" || tcb.status === "TcbNotSupported" || tcb.status === "TdxModuleMismatch";
  const ok =
    tcb.status === "UpToDate" || (!never && (expect.allowTcbStatuses?.includes(tcb.status) ?? false));
  const parts = [
    `platform ${tcb.platform ?? "no matching level"}`,
    ...(tcb.module === undefined ? [] : [`tdx module ${tcb.module}`]),
    `quoting enclave ${tcb.qe ?? "not judged"}`,
    ...(tcb.advisories.length === 0 ? [] : [tcb.advisories.join(" ")]),
  ];
  checks.add({
    name: "tcb-status",
    ok,
    failure: never ? "untrusted" : "refused",
    claimed: tcb.status,
    expected: ["UpToDate", ...(expect.allowTcbStatuses ?? [])].join(" or "),
    detail: parts.join(", "),
  });
}

function judgeEvaluationNumber(
  tcbInfo: TcbInfo | undefined,
  qeIdentity: QeIdentity | undefined,
  expect: DcapExpectations,
  checks: CheckList,
): void {
  const floor = expect.minimumTcbEvaluationDataNumber;
  if (floor === undefined) return;
  const numbers = [tcbInfo, qeIdentity].flatMap((d) => (d === undefined ? [] : [d.tcbEvaluationDataNumber]));
  checks.add({
    name: "tcb-evaluation-data-number",
    ok: numbers.every((n) => n >= floor),
    failure: "refused",
    claimed: numbers.join(" and "),
    expected: `at least ${floor}`,
  });
}

/** One platform's collateral being judged; remembers which signing chains it has been through. */
class Platform {
  readonly #collateral: DcapCollateral;
  readonly #carried: readonly Certificate[];
  readonly #anchors: readonly Certificate[];
  readonly #at: Date;
  readonly #checks: CheckList;
  #signingLeaf: Certificate | undefined;

  constructor(
    collateral: DcapCollateral,
    carried: readonly Certificate[],
    anchors: readonly Certificate[],
    at: Date,
    checks: CheckList,
  ) {
    this.#collateral = collateral;
    this.#carried = carried;
    this.#anchors = anchors;
    this.#at = at;
    this.#checks = checks;
  }

  #chain(leaf: Certificate, intermediates: readonly Certificate[], label: string): readonly Certificate[] {
    return verifyChain({
      leaf,
      intermediates,
      anchors: this.#anchors,
      at: this.#at,
      crls: this.#collateral.crls,
      requireCrls: "all",
      checks: this.#checks,
      label,
    }).path;
  }

  #untrusted(name: string, ok: boolean, more: Partial<Check> = {}): boolean {
    return this.#checks.add({ name, ok, failure: "untrusted", ...more });
  }

  #named(name: string, certificate: Certificate | undefined, expected: RegExp, text: string): void {
    const claimed = certificate?.subject.attributes.find((a) => a.oid === "2.5.4.3")?.value ?? "none";
    this.#untrusted(name, expected.test(claimed), { claimed, expected: text });
  }

  #fromIssuer(name: string, crl: Crl | undefined, issuer: Name): void {
    if (crl === undefined) return;
    this.#untrusted(name, crl.issuer.key === issuer.key, { claimed: crl.issuer.text, expected: issuer.text });
  }

  judgePck(pck: Pck, quote: Quote): void {
    const { certificate } = pck;
    const path = this.#chain(certificate, [...this.#collateral.intermediates, ...this.#carried], "pck-chain");
    this.#named("pck-subject", certificate, /^Intel SGX PCK Certificate$/, "Intel SGX PCK Certificate");
    this.#named(
      "pck-issuer",
      path[1],
      /^Intel SGX PCK (Platform|Processor) CA$/,
      "Intel SGX PCK Platform or Processor CA",
    );
    // A CRL of another authority, though perfectly signed, says nothing about this platform.
    this.#fromIssuer("pck-crl-issuer", this.#collateral.pckCrl, certificate.issuer);
    this.#fromIssuer("root-crl-issuer", this.#collateral.rootCrl, path.at(-1)?.subject ?? certificate.issuer);
    this.#untrusted(
      "qe-report-signature",
      verifyP256(certificateP256Key(certificate), quote.qeReport.bytes, quote.qeReportSignature),
      { claimed: "ECDSA P-256 with SHA-256 by the PCK" },
    );
  }

  judgeTcbInfo(pck: Pck | undefined, quote: Quote): void {
    const { tcbInfo } = this.#collateral;
    const tee = quote.body.kind === "sgx" ? "SGX" : "TDX";
    if (tcbInfo === undefined) {
      const fmspc = pck === undefined ? "the unknown platform" : `FMSPC ${upperHex(pck.fmspc)}`;
      this.#checks.miss(`tcb-info for ${fmspc} (${tee})`);
      return;
    }
    this.#judgeSigned("tcb-info", tcbInfo, this.#collateral.tcbInfoChain);
    this.#untrusted("tcb-info-id", tcbInfo.id === tee, { claimed: tcbInfo.id, expected: tee });
    if (pck !== undefined) {
      for (const [name, claimed, expected] of [
        ["tcb-info-fmspc", tcbInfo.fmspc, pck.fmspc],
        ["tcb-info-pceid", tcbInfo.pceId, pck.pceId],
      ] as const) {
        this.#untrusted(name, sameBytes(claimed, expected), {
          claimed: upperHex(claimed),
          expected: upperHex(expected),
        });
      }
    }
  }

  judgeQeIdentity(quote: Quote): void {
    const { qeIdentity: identity, qeIdentityChain, tcbInfoChain } = this.#collateral;
    const due = quote.body.kind === "sgx" ? "QE" : "TD_QE";
    if (identity === undefined) {
      this.#checks.miss(`qe identity (${due})`);
      return;
    }
    this.#judgeSigned("qe-identity", identity, qeIdentityChain.length > 0 ? qeIdentityChain : tcbInfoChain);
    this.#untrusted("qe-identity-id", identity.id === due, { claimed: identity.id, expected: due });
    const { qeReport: report } = quote;
    const misc = Uint8Array.from([0, 8, 16, 24], (shift) => (report.miscSelect >>> shift) & 0xff);
    this.#masked("qe-misc-select", misc, identity.miscSelectMask, identity.miscSelect);
    this.#masked("qe-attributes", report.attributes, identity.attributesMask, identity.attributes);
    this.#untrusted("qe-mrsigner", sameBytes(report.mrSigner, identity.mrSigner), {
      claimed: toHex(report.mrSigner),
      expected: toHex(identity.mrSigner),
    });
    this.#untrusted("qe-isv-prod-id", report.isvProdId === identity.isvProdId, {
      claimed: String(report.isvProdId),
      expected: String(identity.isvProdId),
    });
  }

  #masked(name: string, value: Uint8Array, mask: Uint8Array, expected: Uint8Array): void {
    const masked = value.map((b, i) => b & (mask[i] ?? 0));
    this.#untrusted(name, sameBytes(masked, expected), {
      claimed: `${toHex(value)} under mask ${toHex(mask)}`,
      expected: toHex(expected),
    });
  }

  #judgeSigned(name: string, document: TcbInfo | QeIdentity, chain: readonly Certificate[]): void {
    const at = this.#at.getTime();
    this.#checks.add({
      name: `${name}-validity`,
      ok: at >= document.issueDate && at <= document.nextUpdate,
      failure: "expired",
      claimed: `${new Date(document.issueDate).toISOString()} to ${new Date(document.nextUpdate).toISOString()}`,
      expected: this.#at.toISOString(),
    });
    const leaf = chain.find((c) => c.basicConstraints?.ca !== true);
    if (leaf === undefined) {
      this.#checks.miss(`issuer chain of the ${name.replace("-", " ")}`);
      return;
    }
    if (this.#signingLeaf === undefined || !sameBytes(this.#signingLeaf.raw, leaf.raw)) {
      this.#chain(leaf, [...chain, ...this.#collateral.intermediates], `${name}-chain`);
      this.#named(`${name}-signer`, leaf, /^Intel SGX TCB Signing$/, "Intel SGX TCB Signing");
      this.#signingLeaf = leaf;
    }
    this.#untrusted(`${name}-signature`, documentSignedBy(document, leaf), {
      claimed: `ECDSA P-256 with SHA-256 by ${leaf.subject.text}`,
    });
  }
}
