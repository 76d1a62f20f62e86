import { sameBytes, toHex } from "@shelter/base";
import { type Check, CheckList, type Verdict } from "../verdict.ts";
import { dcapClaims, enclaveClaims } from "./claims.ts";
import { type EnclaveReport, sgxAttributes } from "./enclave-report.ts";
import { type DcapExpectations, type DcapInput, judgeDcap, recordMalformed } from "./judge.ts";
import { parseQuote, type Quote } from "./quote.ts";

/** What a relying party expects of an enclave. Whatever is absent is not compared. */
export interface SgxExpectations extends DcapExpectations {
  /** Shorter than the field: padded with zeros behind. */
  readonly reportData?: Uint8Array;
  readonly mrEnclaves?: readonly Uint8Array[];
  readonly mrSigners?: readonly Uint8Array[];
  readonly isvProdId?: number;
  readonly minimumIsvSvn?: number;
  readonly configId?: Uint8Array;
  readonly minimumConfigSvn?: number;
  readonly isvFamilyId?: Uint8Array;
  readonly isvExtProdId?: Uint8Array;
  readonly miscSelect?: number;
  readonly allowDebug?: boolean;
}

/** A quote about an enclave, its collateral, and what is expected of it. */
export interface SgxInput extends DcapInput {
  readonly expect?: SgxExpectations;
}

/** Judges an SGX DCAP quote. Pure: no clock, no network. */
export function verifySgx(input: SgxInput): Verdict {
  const checks = new CheckList();
  let quote: Quote;
  try {
    quote = parseQuote(input.quote);
  } catch (error) {
    recordMalformed(checks, "quote-form", error);
    return checks.verdict("sgx", {});
  }
  const { body } = quote;
  const form = body.kind === "sgx";
  checks.add({
    name: "quote-form",
    ok: form,
    failure: "malformed",
    claimed: `version ${quote.header.version}, ${body.kind}`,
    ...behind(quote),
    expected: "a quote of an SGX enclave",
  });
  if (body.kind !== "sgx") return checks.verdict("sgx", {});
  const expect = input.expect ?? {};
  const findings = judgeDcap(quote, input, expect, checks);
  judgeEnclave(body.report, expect, checks);
  return checks.verdict("sgx", { ...dcapClaims(quote, findings), ...enclaveClaims(body.report) });
}

/** Says so when the buffer holds more than the quote. */
export function behind(quote: Quote): Pick<Check, "detail"> {
  const count = quote.bytes.length - quote.length;
  return count === 0 ? {} : { detail: `${count} bytes behind the quote are not part of it` };
}

/** Records whether report data is what is expected, zeros behind what is shorter. */
export function judgeReportData(
  claimed: Uint8Array,
  expected: Uint8Array | undefined,
  checks: CheckList,
): void {
  if (expected === undefined) return;
  const fits = expected.length <= claimed.length;
  const padded = new Uint8Array(claimed.length);
  if (fits) padded.set(expected);
  checks.add({
    name: "report-data",
    ok: fits && sameBytes(claimed, padded),
    failure: "untrusted",
    claimed: toHex(claimed),
    expected: toHex(expected),
  });
}

/** Records whether a value is one of those expected. */
export function judgeOneOf(
  name: string,
  claimed: Uint8Array | undefined,
  list: readonly Uint8Array[] | undefined,
  checks: CheckList,
): void {
  if (list === undefined) return;
  checks.add({
    name,
    ok: claimed !== undefined && list.some((v) => sameBytes(v, claimed)),
    failure: "refused",
    claimed: claimed === undefined ? "absent" : toHex(claimed),
    expected: list.map(toHex).join(" or ") || "none is allowed",
  });
}

function judgeEnclave(report: EnclaveReport, expect: SgxExpectations, checks: CheckList): void {
  const bits = sgxAttributes(report.attributes);
  const refuse = (name: string, ok: boolean, claimed: string | number, expected: string | number): void => {
    const check: Check = {
      name,
      ok,
      failure: "refused",
      claimed: String(claimed),
      expected: String(expected),
    };
    checks.add(check);
  };
  refuse(
    "attributes-debug",
    !bits.debug || expect.allowDebug === true,
    bits.debug ? "debug enclave" : "production enclave",
    expect.allowDebug === true ? "either" : "production enclave",
  );
  judgeReportData(report.reportData, expect.reportData, checks);
  judgeOneOf("mrenclave", report.mrEnclave, expect.mrEnclaves, checks);
  judgeOneOf("mrsigner", report.mrSigner, expect.mrSigners, checks);
  judgeOneOf("config-id", report.configId, expect.configId && [expect.configId], checks);
  judgeOneOf("isv-family-id", report.isvFamilyId, expect.isvFamilyId && [expect.isvFamilyId], checks);
  judgeOneOf("isv-ext-prod-id", report.isvExtProdId, expect.isvExtProdId && [expect.isvExtProdId], checks);
  if (expect.isvProdId !== undefined) {
    refuse("isv-prod-id", report.isvProdId === expect.isvProdId, report.isvProdId, expect.isvProdId);
  }
  if (expect.minimumIsvSvn !== undefined) {
    refuse(
      "isv-svn",
      report.isvSvn >= expect.minimumIsvSvn,
      report.isvSvn,
      `at least ${expect.minimumIsvSvn}`,
    );
  }
  if (expect.minimumConfigSvn !== undefined) {
    const floor = expect.minimumConfigSvn;
    refuse("config-svn", report.configSvn >= floor, report.configSvn, `at least ${floor}`);
  }
  if (expect.miscSelect !== undefined) {
    refuse("misc-select", report.miscSelect === expect.miscSelect, report.miscSelect, expect.miscSelect);
  }
}
