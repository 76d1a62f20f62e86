import { sameBytes, toHex } from "@shelter/base";
import type { CheckList } from "../verdict.ts";
import type { CsvReport } from "./report.ts";

/**
 * What a relying party expects of a report. Whatever is absent is not compared; the permissions
 * (`allow…`) are refusals unless given.
 */
export interface CsvExpectations {
  /** Shorter than the field: padded with zeros behind, as the agents pad. */
  readonly reportData?: Uint8Array;
  /** The nonce the guest gave its firmware. */
  readonly mnonce?: Uint8Array;
  /** Launch measurements, any one of these. */
  readonly measures?: readonly Uint8Array[];
  readonly vmId?: Uint8Array;
  readonly vmVersion?: Uint8Array;
  readonly userPubkeyDigest?: Uint8Array;
  readonly serialNumbers?: readonly string[];
  /** RTMR1 to RTMR4 by number (version 2). */
  readonly rtmrs?: Readonly<Record<number, Uint8Array>>;
  readonly minimumBuild?: number;
  /** The least firmware API the PEK may be from. */
  readonly minimumApi?: { readonly major: number; readonly minor: number };
  readonly allowDebug?: boolean;
  /** Bits of the policy that must be set. */
  readonly requireNoSend?: boolean;
  readonly requireNoKeySharing?: boolean;
  readonly requireEncryptedState?: boolean;
  readonly requireCsv3?: boolean;
  /** Only version 2 reports, which have registers and no mask. */
  readonly requireVersion2?: boolean;
}

/** Compares a report with what is expected of it. */
export function judgeCsvExpectations(
  report: CsvReport,
  serialNumber: string | undefined,
  api: { readonly major: number; readonly minor: number } | undefined,
  expect: CsvExpectations,
  checks: CheckList,
): void {
  const { policy } = report;
  checks.add({
    name: "policy-debug",
    ok: policy.nodbg || expect.allowDebug === true,
    failure: "refused",
    claimed: policy.nodbg ? "NODBG is set" : "NODBG is not set: the host may debug the guest",
    expected: expect.allowDebug === true ? "debugging is allowed" : "NODBG",
  });
  const bit = (name: string, wanted: boolean | undefined, value: boolean, label: string): void => {
    if (wanted !== true) return;
    checks.add({
      name,
      ok: value,
      failure: "refused",
      claimed: value ? label : `no ${label}`,
      expected: label,
    });
  };
  bit("policy-nosend", expect.requireNoSend, policy.nosend, "NOSEND");
  bit("policy-noks", expect.requireNoKeySharing, policy.noks, "NOKS");
  bit("policy-es", expect.requireEncryptedState, policy.es, "ES");
  bit("policy-csv3", expect.requireCsv3, policy.csv3, "CSV3");
  bit("report-version", expect.requireVersion2, report.version === 2, "version 2");
  if (expect.reportData !== undefined) bound("report-data", report.reportData, expect.reportData, checks);
  if (expect.mnonce !== undefined) bound("mnonce", report.mnonce, expect.mnonce, checks);
  const same = (name: string, claimed: Uint8Array, list: readonly Uint8Array[] | undefined): void => {
    if (list === undefined) return;
    checks.add({
      name,
      ok: list.some((v) => sameBytes(v, claimed)),
      failure: "refused",
      claimed: toHex(claimed),
      expected: list.map(toHex).join(" or ") || "none is allowed",
    });
  };
  same("measure", report.measure, expect.measures);
  same("vm-id", report.vmId, expect.vmId && [expect.vmId]);
  same("vm-version", report.vmVersion, expect.vmVersion && [expect.vmVersion]);
  same("user-pubkey-digest", report.userPubkeyDigest, expect.userPubkeyDigest && [expect.userPubkeyDigest]);
  for (const [index, value] of Object.entries(expect.rtmrs ?? {})) {
    same(`rtmr${index}`, report.rtmrs[Number(index)] ?? new Uint8Array(), [value]);
  }
  if (expect.serialNumbers !== undefined) {
    checks.add({
      name: "serial-number",
      ok: serialNumber !== undefined && expect.serialNumbers.includes(serialNumber),
      failure: "refused",
      claimed: serialNumber ?? "not said",
      expected: expect.serialNumbers.join(" or ") || "none is allowed",
    });
  }
  judgeFirmware(report, api, expect, checks);
}

/** Freshness and binding: a report that answers another question is no evidence at all. */
function bound(name: string, claimed: Uint8Array, expected: Uint8Array, checks: CheckList): void {
  const padded = new Uint8Array(claimed.byteLength);
  const fits = expected.byteLength <= claimed.byteLength;
  if (fits) padded.set(expected);
  checks.add({
    name,
    ok: fits && sameBytes(claimed, padded),
    failure: "untrusted",
    claimed: toHex(claimed),
    expected: toHex(expected),
  });
}

function judgeFirmware(
  report: CsvReport,
  api: { readonly major: number; readonly minor: number } | undefined,
  expect: CsvExpectations,
  checks: CheckList,
): void {
  if (expect.minimumBuild !== undefined) {
    checks.add({
      name: "firmware-build",
      ok: report.build !== undefined && report.build >= expect.minimumBuild,
      failure: "refused",
      claimed: report.build === undefined ? "not said by version 1" : String(report.build),
      expected: `at least ${expect.minimumBuild}`,
    });
  }
  const { minimumApi } = expect;
  if (minimumApi !== undefined) {
    const order = (v: { readonly major: number; readonly minor: number }): number => v.major * 256 + v.minor;
    checks.add({
      name: "firmware-api",
      ok: api !== undefined && order(api) >= order(minimumApi),
      failure: "refused",
      claimed: api === undefined ? "not said" : `${api.major}.${api.minor}`,
      expected: `at least ${minimumApi.major}.${minimumApi.minor}`,
    });
  }
}
