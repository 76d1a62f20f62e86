import { sameBytes, toHex } from "@shelter/base";
import { dcapClaims } from "../sgx/claims.ts";
import {
  type DcapExpectations,
  type DcapFindings,
  type DcapInput,
  judgeDcap,
  recordMalformed,
} from "../sgx/judge.ts";
import { parseQuote, type Quote } from "../sgx/quote.ts";
import { moduleIdentity } from "../sgx/tcb-status.ts";
import { behind, judgeOneOf, judgeReportData } from "../sgx/verify.ts";
import { CheckList, type Verdict } from "../verdict.ts";
import { replayRtmrs } from "./event-log.ts";
import { type TdReport, tdAttributes } from "./td-report.ts";

/** What a relying party expects of a trust domain. Whatever is absent is not compared. */
export interface TdxExpectations extends DcapExpectations {
  /** Shorter than the field: padded with zeros behind. */
  readonly reportData?: Uint8Array;
  readonly mrTds?: readonly Uint8Array[];
  /** Values allowed for RTMR0 to RTMR3; undefined where any is. */
  readonly rtmrs?: readonly (readonly Uint8Array[] | undefined)[];
  readonly mrConfigId?: Uint8Array;
  readonly mrOwner?: Uint8Array;
  readonly mrOwnerConfig?: Uint8Array;
  readonly mrSeams?: readonly Uint8Array[];
  readonly mrServiceTds?: readonly Uint8Array[];
  readonly tdAttributes?: Uint8Array;
  readonly xfam?: Uint8Array;
  /** Component by component. */
  readonly minimumTeeTcbSvn?: Uint8Array;
  readonly allowDebug?: boolean;
  readonly allowMigratable?: boolean;
}

/** A quote about a trust domain, its collateral, its event log, and what is expected of it. */
export interface TdxInput extends DcapInput {
  /** CCEL or JSON; when given, it must lead to the quote's RTMRs. */
  readonly eventLog?: Uint8Array;
  readonly expect?: TdxExpectations;
}

/** Judges a TDX quote. Pure: no clock, no network. */
export function verifyTdx(input: TdxInput): Verdict {
  const checks = new CheckList();
  let quote: Quote;
  try {
    quote = parseQuote(input.quote);
  } catch (error) {
    recordMalformed(checks, "quote-form", error);
    return checks.verdict("tdx", {});
  }
  const { body } = quote;
  checks.add({
    name: "quote-form",
    ok: body.kind !== "sgx",
    failure: "malformed",
    claimed: `version ${quote.header.version}, ${body.kind}`,
    ...behind(quote),
    expected: "a quote of a trust domain",
  });
  if (body.kind === "sgx") return checks.verdict("tdx", {});
  const { report } = body;
  const expect = input.expect ?? {};
  const findings = judgeDcap(quote, input, expect, checks);
  judgeModule(report, findings, checks);
  judgeAttributes(report, expect, checks);
  if (input.eventLog !== undefined) judgeEventLog(report, input.eventLog, checks);
  judgeExpectations(report, expect, checks);
  return checks.verdict("tdx", { ...dcapClaims(quote, findings), ...tdClaims(report) });
}

/** The TDX module that signed for the TD: Intel's, and no debug build. */
function judgeModule(report: TdReport, findings: DcapFindings, checks: CheckList): void {
  const info = findings.collateral?.tcbInfo;
  if (info?.tdxModule === undefined) return;
  const version = report.teeTcbSvn[1] ?? 0;
  const identity = version > 0 ? moduleIdentity(info, version) : info.tdxModule;
  if (identity === undefined) {
    checks.add({
      name: "tdx-module",
      ok: false,
      failure: "untrusted",
      claimed: `major version ${version}`,
      expected: info.tdxModuleIdentities?.map((i) => i.id).join(" or ") ?? "no identities in the tcb info",
    });
    return;
  }
  checks.add({
    name: "tdx-module-mrsigner",
    ok: sameBytes(report.mrSignerSeam, identity.mrSigner),
    failure: "untrusted",
    claimed: toHex(report.mrSignerSeam),
    expected: toHex(identity.mrSigner),
  });
  const zero = report.seamAttributes.every((b) => b === 0);
  checks.add({
    name: "tdx-module-attributes",
    ok: zero && sameBytes(report.seamAttributes, identity.attributes),
    failure: "untrusted",
    claimed: toHex(report.seamAttributes),
    expected: toHex(identity.attributes),
  });
}

function judgeAttributes(report: TdReport, expect: TdxExpectations, checks: CheckList): void {
  const bits = tdAttributes(report.tdAttributes);
  const permit = (name: string, set: boolean, allowed: boolean | undefined, what: string): void => {
    checks.add({
      name,
      ok: !set || allowed === true,
      failure: "refused",
      claimed: set ? what : `not ${what}`,
      expected: allowed === true ? "either" : `not ${what}`,
    });
  };
  permit("attributes-debug", bits.underDebug, expect.allowDebug, "under debug");
  permit("attributes-migratable", bits.migratable, expect.allowMigratable, "migratable");
  permit(
    "attributes-reserved",
    bits.reserved !== 0n,
    expect.tdAttributes !== undefined && sameBytes(expect.tdAttributes, report.tdAttributes),
    "with attributes unknown here",
  );
}

function judgeEventLog(report: TdReport, eventLog: Uint8Array, checks: CheckList): void {
  try {
    const { rtmrs, silent, events, forged } = replayRtmrs(eventLog);
    checks.add({ name: "event-log-form", ok: true, failure: "malformed", claimed: `${events} events` });
    for (const [i, rtmr] of report.rtmrs.entries()) {
      if (silent.has(i)) continue;
      const replayed = rtmrs[i] ?? new Uint8Array(rtmr.length);
      checks.add({
        name: `event-log-rtmr${i}`,
        ok: sameBytes(rtmr, replayed),
        failure: "untrusted",
        claimed: toHex(replayed),
        expected: `${toHex(rtmr)}, as quoted`,
      });
    }
    checks.add({
      name: "event-log-data",
      ok: forged.length === 0,
      failure: "refused",
      ...(forged.length === 0
        ? {}
        : { detail: `${forged.join(", ")} does not have the digest that was measured` }),
    });
  } catch (error) {
    recordMalformed(checks, "event-log-form", error);
  }
}

function judgeExpectations(report: TdReport, expect: TdxExpectations, checks: CheckList): void {
  const one = (value: Uint8Array | undefined): readonly Uint8Array[] | undefined => value && [value];
  judgeReportData(report.reportData, expect.reportData, checks);
  judgeOneOf("mrtd", report.mrTd, expect.mrTds, checks);
  for (const [i, rtmr] of report.rtmrs.entries()) judgeOneOf(`rtmr${i}`, rtmr, expect.rtmrs?.[i], checks);
  judgeOneOf("mrconfigid", report.mrConfigId, one(expect.mrConfigId), checks);
  judgeOneOf("mrowner", report.mrOwner, one(expect.mrOwner), checks);
  judgeOneOf("mrownerconfig", report.mrOwnerConfig, one(expect.mrOwnerConfig), checks);
  judgeOneOf("mrseam", report.mrSeam, expect.mrSeams, checks);
  judgeOneOf("mrservicetd", report.mrServiceTd, expect.mrServiceTds, checks);
  judgeOneOf("tdattributes", report.tdAttributes, one(expect.tdAttributes), checks);
  judgeOneOf("xfam", report.xfam, one(expect.xfam), checks);
  const floor = expect.minimumTeeTcbSvn;
  if (floor !== undefined) {
    checks.add({
      name: "minimum-tee-tcb-svn",
      ok:
        floor.length === report.teeTcbSvn.length &&
        report.teeTcbSvn.every((svn, i) => svn >= (floor[i] ?? 0)),
      failure: "refused",
      claimed: toHex(report.teeTcbSvn),
      expected: `at least ${toHex(floor)}, part by part`,
    });
  }
}

function tdClaims(report: TdReport): Record<string, unknown> {
  const bits = tdAttributes(report.tdAttributes);
  return {
    tee_tcb_svn: toHex(report.teeTcbSvn),
    mrseam: toHex(report.mrSeam),
    mrsignerseam: toHex(report.mrSignerSeam),
    seamattributes: toHex(report.seamAttributes),
    tdattributes: toHex(report.tdAttributes),
    tdattributes_bits: {
      debug: bits.debug,
      sept_ve_disable: bits.septVeDisable,
      migratable: bits.migratable,
      pks: bits.pks,
      kl: bits.kl,
      perfmon: bits.perfmon,
    },
    xfam: toHex(report.xfam),
    mrtd: toHex(report.mrTd),
    mrconfigid: toHex(report.mrConfigId),
    mrowner: toHex(report.mrOwner),
    mrownerconfig: toHex(report.mrOwnerConfig),
    ...Object.fromEntries(report.rtmrs.map((rtmr, i) => [`rtmr${i}`, toHex(rtmr)])),
    report_data: toHex(report.reportData),
    ...(report.teeTcbSvn2 === undefined ? {} : { tee_tcb_svn2: toHex(report.teeTcbSvn2) }),
    ...(report.mrServiceTd === undefined ? {} : { mrservicetd: toHex(report.mrServiceTd) }),
  };
}
