import { verify } from "node:crypto";
import { describe, ShelterError, toHex } from "@shelter/base";
import { CheckList, type Verdict } from "../verdict.ts";
import {
  type Certificate,
  keyObject,
  parseCertificate,
  parseCertificates,
  verifyChain,
} from "../x509/index.ts";
import { snpClaims } from "./claims.ts";
import { SnpCollateral, type SnpFiles } from "./collateral.ts";
import { judgeSnpExpectations, type SnpExpectations } from "./expect.ts";
import { productOfCpuid, SNP_PRODUCTS, type SnpProduct } from "./product.ts";
import { parseSnpReport, type SnpReport, signedBytes } from "./report.ts";
import { AMD_CERTIFICATES } from "./roots.ts";
import { decodeTcb, tcbAtMost, tcbParts, tcbText } from "./tcb.ts";
import { chipIdMatches, type Vek } from "./vek.ts";

/** A report, its collateral, and what is expected of it. */
export interface SnpInput extends SnpFiles {
  /** The 1184-byte report. */
  readonly report: Uint8Array;
  /** Collateral that was parsed before, instead of the files beside it. */
  readonly collateral?: SnpCollateral;
  /** The one trust anchor to use instead of AMD's. */
  readonly root?: Uint8Array;
  /** The time to judge at. */
  readonly at: Date;
  readonly expect?: SnpExpectations;
}

const ECDSA_P384_SHA384 = 1;

/** Judges an SEV-SNP report. Pure: no clock, no network, nothing remembered but parsed built-in certificates. */
export function verifySnp(input: SnpInput): Verdict {
  const checks = new CheckList();
  let report: SnpReport;
  try {
    report = parseSnpReport(input.report);
  } catch (error) {
    malformed(checks, "report-form", error);
    return checks.verdict("snp", {});
  }
  checks.add({ name: "report-form", ok: true, failure: "malformed", claimed: `version ${report.version}` });
  const found = readCollateral(input, report, checks);
  // Version 2 does not say what it runs on: then the signing key's certificate does.
  const product =
    report.cpuid === undefined
      ? found?.vek?.product
      : productOfCpuid(report.cpuid.family, report.cpuid.model);
  if (found?.vek !== undefined) {
    judgeChain(found.vek, found, product, input, checks);
    judgeVek(report, found.vek, product, checks);
  } else if (found !== undefined) {
    checks.miss(missingVek(report, product));
  }
  judgeReport(report, product, checks);
  judgeSnpExpectations(report, product, input.expect ?? {}, checks);
  return checks.verdict("snp", snpClaims(report, product, found?.vek));
}

interface Found {
  readonly collateral: SnpCollateral;
  readonly vek: Vek | undefined;
  readonly root: readonly Certificate[] | undefined;
}

function malformed(checks: CheckList, name: string, error: unknown): void {
  // What is not our own named error is our own mistake, and must not pass for bad evidence.
  if (!(error instanceof ShelterError)) throw error;
  checks.add({ name, ok: false, failure: "malformed", detail: describe(error) });
}

function readCollateral(input: SnpInput, report: SnpReport, checks: CheckList): Found | undefined {
  try {
    const collateral = input.collateral ?? new SnpCollateral(input);
    return {
      collateral,
      vek: collateral.vekFor(report.signingKey),
      root: input.root === undefined ? undefined : parseCertificates(input.root, "root"),
    };
  } catch (error) {
    malformed(checks, "collateral-form", error);
    return undefined;
  }
}

function missingVek(report: SnpReport, product: SnpProduct | undefined): string {
  const of = product === undefined ? "a product the report does not name" : product;
  const tcb = product === undefined ? undefined : decodeTcb(report.reportedTcb, product);
  const at = tcbText(tcb, report.reportedTcb);
  if (report.signingKey === "VLEK") return `vlek of ${of} at ${at}`;
  return `vcek of ${of}, chip ${toHex(report.chipId)}, at ${at}`;
}

const builtIn = new Map<string, Certificate>();

function amd(product: SnpProduct, which: "ark" | "ask" | "asvk"): Certificate {
  const key = `${product} ${which}`;
  let certificate = builtIn.get(key);
  if (certificate === undefined) {
    const [, base64] = /-----\n([^-]+)\n-----/.exec(AMD_CERTIFICATES[product][which]) ?? [];
    certificate = parseCertificate(Buffer.from(base64 ?? "", "base64"), `${which} of ${product}`);
    builtIn.set(key, certificate);
  }
  return certificate;
}

function judgeChain(
  vek: Vek,
  { collateral, root }: Found,
  product: SnpProduct | undefined,
  input: SnpInput,
  checks: CheckList,
): void {
  const intermediates = [...collateral.intermediates];
  let anchors = root;
  if (anchors === undefined) {
    // The roots of all products would also do, but then the chain would not tie the key to its product.
    anchors = (product === undefined ? SNP_PRODUCTS : [product]).map((p) => amd(p, "ark"));
  }
  if (product !== undefined) intermediates.push(amd(product, vek.kind === "VLEK" ? "asvk" : "ask"));
  const { path } = verifyChain({
    leaf: vek.certificate,
    intermediates,
    anchors,
    at: input.at,
    crls: collateral.crls,
    requireCrls: input.expect?.requireCrl === true ? "intermediates" : "none",
    checks,
    label: "vek-chain",
  });
  const signer = commonName(path[1]);
  const expected = product === undefined ? undefined : `SEV-${vek.kind === "VLEK" ? "VLEK-" : ""}${product}`;
  checks.add({
    name: "vek-issuer",
    ok: signer !== undefined && signer === expected,
    failure: "untrusted",
    claimed: signer ?? vek.certificate.issuer.text,
    ...(expected === undefined ? {} : { expected }),
  });
}

function commonName(certificate: Certificate | undefined): string | undefined {
  return certificate?.subject.attributes.find((a) => a.oid === "2.5.4.3")?.value;
}

function judgeVek(report: SnpReport, vek: Vek, product: SnpProduct | undefined, checks: CheckList): void {
  checks.add({
    name: "signing-key",
    ok: report.signingKey === vek.kind,
    failure: "untrusted",
    claimed: report.signingKey,
    expected: vek.kind,
    ...(report.signingKey === "none" ? { detail: "the report says that it is not signed" } : {}),
  });
  checks.add({
    name: "product",
    ok: product !== undefined && vek.product === product,
    failure: "untrusted",
    claimed: vek.productName,
    expected: product ?? `one of ${SNP_PRODUCTS.join(", ")}`,
  });
  const key = vek.certificate.publicKey;
  const onCurve = key.kind === "ec" && key.name === "P-384";
  checks.add({ name: "vek-key", ok: onCurve, failure: "untrusted", claimed: key.name, expected: "P-384" });
  checks.add({
    name: "report-signature",
    ok: onCurve && verifyReport(report, vek),
    failure: "untrusted",
    claimed: `ECDSA P-384 with SHA-384 by the ${vek.kind}`,
  });
  const reported = product === undefined ? undefined : decodeTcb(report.reportedTcb, product);
  const same =
    reported !== undefined &&
    tcbParts(product ?? "Milan").every((part) => (vek.tcb[part] ?? 0) === (reported[part] ?? 0)) &&
    (vek.tcb.fmc === undefined || product === "Turin");
  checks.add({
    name: "tcb-vek",
    ok: same,
    failure: "untrusted",
    claimed: tcbText(reported, report.reportedTcb),
    expected: tcbText(vek.tcb, report.reportedTcb),
    ...(same ? {} : { detail: "the reported tcb is not the one the signing key was made for" }),
  });
  if (vek.hwId !== undefined) judgeChip(report, vek.hwId, checks);
}

function judgeChip(report: SnpReport, hwId: Uint8Array, checks: CheckList): void {
  // With MASK_CHIP_ID the host hides the chip in reports; the signature still is by that chip's key.
  const masked = report.chipId.every((b) => b === 0);
  checks.add({
    name: "chip-id",
    ok: masked || chipIdMatches(report.chipId, hwId),
    failure: "untrusted",
    claimed: masked ? "masked by the host" : toHex(report.chipId),
    expected: toHex(hwId),
  });
}

function verifyReport(report: SnpReport, vek: Vek): boolean {
  const key = keyObject(vek.certificate.publicKey);
  if (key === undefined) return false;
  // OpenSSL refuses r or s that is zero or not below the order.
  return verify("sha384", signedBytes(report), { key, dsaEncoding: "ieee-p1363" }, report.signature);
}

function judgeReport(report: SnpReport, product: SnpProduct | undefined, checks: CheckList): void {
  checks.add({
    name: "signature-algorithm",
    ok: report.signatureAlgo === ECDSA_P384_SHA384,
    failure: "untrusted",
    claimed: String(report.signatureAlgo),
    expected: `${ECDSA_P384_SHA384} (ECDSA P-384 with SHA-384)`,
  });
  checks.add({
    name: "mask-chip-key",
    ok: !report.maskChipKey,
    failure: "untrusted",
    claimed: String(report.maskChipKey),
    expected: "false",
  });
  const noAuthor = report.authorKeyDigest.every((b) => b === 0);
  checks.add({
    name: "author-key-enabled",
    ok: report.authorKeyEn || noAuthor,
    failure: "untrusted",
    claimed: String(report.authorKeyEn),
    ...(report.authorKeyEn || noAuthor ? {} : { detail: "an author key digest without AUTHOR_KEY_EN" }),
  });
  judgeFirmware(report, checks);
  if (product === undefined) return;
  const current = decodeTcb(report.currentTcb, product);
  for (const [name, bytes] of [
    ["tcb-reported", report.reportedTcb],
    ["tcb-committed", report.committedTcb],
  ] as const) {
    const tcb = decodeTcb(bytes, product);
    const ok = tcb !== undefined && current !== undefined && tcbAtMost(tcb, current);
    checks.add({
      name,
      ok,
      failure: "untrusted",
      claimed: tcbText(tcb, bytes),
      expected: `at most ${tcbText(current, report.currentTcb)}, the current tcb`,
    });
  }
  const launch = decodeTcb(report.launchTcb, product);
  checks.add({
    name: "tcb-launch",
    ok: launch !== undefined,
    failure: "malformed",
    claimed: tcbText(launch, report.launchTcb),
  });
}

function judgeFirmware(report: SnpReport, checks: CheckList): void {
  const { current, committed } = report;
  const order = (f: typeof current): number => (f.major << 16) | (f.minor << 8) | f.build;
  checks.add({
    name: "firmware-committed",
    ok: order(committed) <= order(current),
    failure: "untrusted",
    claimed: `${committed.major}.${committed.minor}.${committed.build}`,
    expected: `at most ${current.major}.${current.minor}.${current.build}, the current firmware`,
  });
  const { policy } = report;
  checks.add({
    name: "policy-abi",
    ok: (policy.abiMajor << 8) + policy.abiMinor <= (current.major << 8) + current.minor,
    failure: "untrusted",
    claimed: `at least ${policy.abiMajor}.${policy.abiMinor}`,
    expected: `at most ${current.major}.${current.minor}, the current firmware`,
  });
}
