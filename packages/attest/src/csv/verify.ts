import { describe, ShelterError, sameBytes, toHex } from "@shelter/base";
import { CryptoError, hmacSm3, sm2 } from "@shelter/crypto";
import { parseEventLog, replay } from "../eventlog/index.ts";
import { CheckList, type Verdict } from "../verdict.ts";
import {
  type CsvCertificate,
  parseCaCertificate,
  parseHskCek,
  SM2_SIGNATURE,
  USAGE,
  usageName,
} from "./certificate.ts";
import { csvClaims } from "./claims.ts";
import { type CsvEvidence, parseCsvEvidence } from "./evidence.ts";
import { type CsvExpectations, judgeCsvExpectations } from "./expect.ts";
import type { CsvReport, CsvSigner, CsvWrapper } from "./report.ts";
import { HYGON_HRK } from "./root.ts";

/** CSV evidence, its collateral, and what is expected of it. */
export interface CsvInput {
  /** Trustee's JSON, or a raw report. */
  readonly evidence: Uint8Array;
  /** Magic and flags that came beside a raw report; the form is recognised without them. */
  readonly wrapper?: CsvWrapper;
  /** HSK and CEK of the chip, as Hygon's key server gives them. */
  readonly hskCek?: Uint8Array;
  /** The one root key certificate to trust instead of Hygon's. */
  readonly root?: Uint8Array;
  /** Confidential computing event log, where it is not inside the evidence. */
  readonly eventLog?: Uint8Array;
  readonly expect?: CsvExpectations;
}

/** Judges Hygon CSV evidence. Pure; the certificates carry no dates, so no time is needed. */
export function verifyCsv(input: CsvInput): Verdict {
  const checks = new CheckList();
  const evidence = attempt(checks, "report-form", () => parseCsvEvidence(input.evidence, input.wrapper));
  if (evidence === undefined) return checks.verdict("csv", {});
  const { report, pek } = evidence;
  checks.add({ name: "report-form", ok: true, failure: "malformed", claimed: `version ${report.version}` });
  const chain = attempt(checks, "collateral-form", () => readChain(input, evidence));
  if (chain !== undefined) judgeChain(chain, evidence, checks);
  judgeReport(report, pek, checks);
  judgeEventLog(report, input.eventLog ?? evidence.eventLog, checks);
  judgeCsvExpectations(report, evidence.serialNumber, pek?.api, input.expect ?? {}, checks);
  return checks.verdict("csv", csvClaims(evidence));
}

/** Judges a root key certificate by itself: Hygon's own, and signed by itself. */
export function verifyHrk(bytes: Uint8Array): Verdict {
  const checks = new CheckList();
  const root = attempt(checks, "hrk-form", () => parseCaCertificate(bytes, "hrk"));
  if (root === undefined) return checks.verdict("csv", {});
  judgeCertificate("hrk", root, root, USAGE.HRK, checks);
  checks.add({
    name: "hrk-pinned",
    ok: sameBytes(bytes, HYGON_HRK),
    failure: "untrusted",
    detail: "the certificate is the built-in one",
  });
  return checks.verdict("csv", {
    key_id: toHex(root.keyId ?? new Uint8Array()),
    user_id: Buffer.from(root.userId).toString("latin1"),
    usage: root.usage,
  });
}

interface Chain {
  readonly root: CsvCertificate;
  readonly hsk: CsvCertificate | undefined;
  readonly cek: CsvCertificate | undefined;
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

function readChain(input: CsvInput, evidence: CsvEvidence): Chain {
  const root = parseCaCertificate(input.root ?? HYGON_HRK, "hrk");
  const given = input.hskCek && parseHskCek(input.hskCek);
  return { root, hsk: given?.hsk ?? evidence.hsk, cek: given?.cek ?? evidence.cek };
}

function judgeChain({ root, hsk, cek }: Chain, evidence: CsvEvidence, checks: CheckList): void {
  const { pek } = evidence;
  judgeRoot(root, checks);
  if (pek === undefined) checks.miss("pek certificate of the report");
  if (hsk === undefined || cek === undefined) {
    checks.miss(`hsk and cek certificates of chip ${evidence.serialNumber ?? "(not said)"}`);
    return;
  }
  judgeCertificate("hsk", hsk, root, USAGE.HSK, checks);
  judgeCertificate("cek", cek, hsk, USAGE.CEK, checks);
  if (pek !== undefined) judgeCertificate("pek", pek, cek, USAGE.PEK, checks);
}

/** An anchor is trusted for its bytes, not for signing itself; one that is given must still be what it claims. */
function judgeRoot(root: CsvCertificate, checks: CheckList): void {
  if (!sameBytes(root.raw, HYGON_HRK)) {
    judgeCertificate("hrk", root, root, USAGE.HRK, checks);
    return;
  }
  checks.add({
    name: "hrk",
    ok: true,
    failure: "untrusted",
    claimed: "Hygon's root key certificate, built in",
  });
}

/** One link: the certificate is for the expected use, names the signer's key if it names any, and is signed by it. */
function judgeCertificate(
  name: string,
  certificate: CsvCertificate,
  signer: CsvCertificate,
  usage: number,
  checks: CheckList,
): void {
  const { algorithm } = certificate;
  checks.add({
    name: `${name}-usage`,
    ok: certificate.usage === usage && (algorithm === undefined || algorithm === SM2_SIGNATURE),
    failure: "untrusted",
    claimed: `${usageName(certificate.usage)}${algorithm === undefined ? "" : `, algorithm ${algorithm}`}`,
    expected: `${usageName(usage)}${algorithm === undefined ? "" : `, algorithm ${SM2_SIGNATURE}`}`,
  });
  // A CA certificate always names its signer; a chip certificate does from version 2 on and has zeros before.
  const silent = certificate.kind === "chip" && certificate.signerId.every((b) => b === 0);
  if (signer.keyId !== undefined && !silent) {
    checks.add({
      name: `${name}-signer`,
      ok: sameBytes(certificate.signerId, signer.keyId),
      failure: "untrusted",
      claimed: toHex(certificate.signerId),
      expected: toHex(signer.keyId),
    });
  }
  const mine = certificate.signatures.filter(
    (s) => s.usage === undefined || (s.usage === signer.usage && s.algorithm === SM2_SIGNATURE),
  );
  judgeSignature(
    `${name}-signature`,
    signer,
    certificate.signed,
    mine.map((s) => s.value),
    checks,
  );
}

/** Whether one of the signatures holds under the signer's key and its own user identity. */
function judgeSignature(
  name: string,
  signer: CsvCertificate,
  signed: Uint8Array,
  signatures: readonly (Uint8Array | undefined)[],
  checks: CheckList,
): void {
  const { publicKey, userId: identity } = signer;
  const by = `SM2 with SM3 by ${usageName(signer.usage)} as ${JSON.stringify(Buffer.from(identity).toString("latin1"))}`;
  let detail: string | undefined;
  if (signatures.length === 0) detail = `no signature by ${usageName(signer.usage)} is in it`;
  else if (signatures.every((s) => s === undefined)) detail = "r or s exceeds 256 bits";
  try {
    const ok = signatures.some((s) => s !== undefined && sm2.verify(publicKey, signed, s, { identity }));
    checks.add({ name, ok, failure: "untrusted", claimed: by, ...(detail === undefined ? {} : { detail }) });
  } catch (error) {
    if (!(error instanceof CryptoError)) throw error;
    checks.add({ name, ok: false, failure: "untrusted", claimed: by, detail: describe(error) });
  }
}

function judgeReport(report: CsvReport, pek: CsvCertificate | undefined, checks: CheckList): void {
  // Version 1 does not sign these two, and under another mask they read otherwise: they also show that the mask
  // itself, which is not signed either, was not changed.
  checks.add({
    name: "report-signer",
    ok: report.sigUsage === USAGE.PEK && report.sigAlgo === SM2_SIGNATURE,
    failure: "untrusted",
    claimed: `${usageName(report.sigUsage)}, algorithm ${report.sigAlgo}`,
    expected: `PEK, algorithm ${SM2_SIGNATURE}`,
  });
  if (report.anonce !== undefined) judgeMask(report, checks);
  if (pek !== undefined) judgeSignature("report-signature", pek, report.signed, [report.signature], checks);
  const { signer } = report;
  if (signer !== undefined) judgeSigner(report, signer, pek, checks);
  if (report.version === 2) {
    const [rtmr0 = new Uint8Array()] = report.rtmrs;
    checks.add({
      name: "rtmr0",
      ok: sameBytes(rtmr0, report.measure),
      failure: "untrusted",
      claimed: toHex(rtmr0),
      expected: toHex(report.measure),
      detail: "rtmr0 repeats the launch measurement",
    });
  }
}

/**
 * Who changes the mask together with usage and algorithm changes what every masked field seems to say, by the same
 * four bytes. The digest of the owner's key shows it: it is zeros where there is no owner, and then those four bytes
 * again and again. Where there is one, an expected nonce, report data or measurement shows it.
 */
function judgeMask(report: CsvReport, checks: CheckList): void {
  const { userPubkeyDigest } = report;
  const word = userPubkeyDigest.subarray(0, 4);
  const repeats = userPubkeyDigest.every((b, i) => b === word[i % 4]);
  checks.add({
    name: "report-mask",
    ok: !repeats || word.every((b) => b === 0),
    failure: "untrusted",
    claimed: toHex(report.anonce ?? new Uint8Array()),
    detail: "the mask leaves a digest of the owner's key, or zeros",
  });
}

function judgeSigner(
  report: CsvReport,
  signer: CsvSigner,
  pek: CsvCertificate | undefined,
  checks: CheckList,
): void {
  if (signer.original) {
    checks.add({
      name: "report-mac",
      ok: sameBytes(hmacSm3(report.mnonce, signer.macInput), signer.mac),
      failure: "untrusted",
      claimed: toHex(signer.mac),
      detail: "HMAC-SM3 under mnonce over pek certificate and serial number",
    });
  }
  checks.add({
    name: "report-pek",
    ok: pek !== undefined && sameBytes(pek.raw, signer.pek),
    failure: "untrusted",
    detail: "the pek certificate inside the report is the one its signature is checked with",
  });
}

const REGISTERS = [1, 2, 3, 4] as const;

function judgeEventLog(report: CsvReport, bytes: Uint8Array | undefined, checks: CheckList): void {
  if (bytes === undefined) return;
  const log = attempt(checks, "event-log-form", () => parseEventLog(bytes));
  if (log === undefined) return;
  if (report.version === 1) {
    checks.add({
      name: "event-log",
      ok: false,
      failure: "untrusted",
      detail: "a version 1 report has no registers that could vouch for an event log",
    });
    return;
  }
  // Unlike in TDX, register i of the log is RTMR i.
  const replayed = replay(log, "sm3");
  for (const index of REGISTERS) {
    const claimed = report.rtmrs[index] ?? new Uint8Array();
    const expected = replayed.get(index) ?? new Uint8Array(32);
    checks.add({
      name: `event-log-rtmr${index}`,
      ok: sameBytes(claimed, expected),
      failure: "untrusted",
      claimed: toHex(claimed),
      expected: toHex(expected),
    });
  }
}
