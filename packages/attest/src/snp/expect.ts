import { sameBytes, toHex } from "@shelter/base";
import type { CheckList } from "../verdict.ts";
import type { SnpProduct } from "./product.ts";
import type { SnpFirmware, SnpReport } from "./report.ts";
import { VMPL_HOST } from "./report.ts";
import { decodeTcb, type SnpTcb, tcbAtMost, tcbText } from "./tcb.ts";

/**
 * What a relying party expects of a report. Whatever is absent is not compared; the permissions
 * (`allow…`) are refusals unless given.
 */
export interface SnpExpectations {
  /** Shorter than the field: padded with zeros behind, as the agents pad. */
  readonly reportData?: Uint8Array;
  readonly hostData?: Uint8Array;
  /** Any one of these. */
  readonly measurements?: readonly Uint8Array[];
  readonly familyId?: Uint8Array;
  readonly imageId?: Uint8Array;
  readonly chipIds?: readonly Uint8Array[];
  readonly idKeyDigests?: readonly Uint8Array[];
  readonly authorKeyDigests?: readonly Uint8Array[];
  readonly vmpl?: number;
  readonly minimumGuestSvn?: number;
  readonly minimumTcb?: Partial<SnpTcb>;
  readonly minimumLaunchTcb?: Partial<SnpTcb>;
  readonly minimumFirmware?: SnpFirmware;
  readonly minimumAbi?: { readonly major: number; readonly minor: number };
  readonly allowDebug?: boolean;
  readonly allowMigration?: boolean;
  /** A report the hypervisor asked for, whose report data is not the guest's. */
  readonly allowHostRequest?: boolean;
  readonly allowSmt?: boolean;
  /** Firmware that runs but is not committed yet; allowed unless `false`. */
  readonly allowProvisionalFirmware?: boolean;
  readonly requireSingleSocket?: boolean;
  readonly requireMemAes256Xts?: boolean;
  readonly requireRaplDisabled?: boolean;
  readonly requireCiphertextHiding?: boolean;
  readonly requirePageSwapDisabled?: boolean;
  readonly requireAliasCheck?: boolean;
  readonly allowCxl?: boolean;
  /** Refuse to judge without a CRL of AMD's root. */
  readonly requireCrl?: boolean;
}

/** Compares a report with what is expected of it. */
export function judgeSnpExpectations(
  report: SnpReport,
  product: SnpProduct | undefined,
  expect: SnpExpectations,
  checks: CheckList,
): void {
  judgePolicy(report, expect, checks);
  if (expect.reportData !== undefined) {
    const padded = new Uint8Array(64);
    const fits = expect.reportData.length <= 64;
    if (fits) padded.set(expect.reportData);
    checks.add({
      name: "report-data",
      ok: fits && sameBytes(report.reportData, padded),
      failure: "untrusted",
      claimed: toHex(report.reportData),
      expected: toHex(expect.reportData),
    });
  }
  const oneOf = (name: string, claimed: Uint8Array, list: readonly Uint8Array[] | undefined): void => {
    if (list === undefined) return;
    checks.add({
      name,
      ok: list.some((v) => sameBytes(v, claimed)),
      failure: "refused",
      claimed: toHex(claimed),
      expected: list.map(toHex).join(" or ") || "none is allowed",
    });
  };
  oneOf("host-data", report.hostData, expect.hostData && [expect.hostData]);
  oneOf("measurement", report.measurement, expect.measurements);
  oneOf("family-id", report.familyId, expect.familyId && [expect.familyId]);
  oneOf("image-id", report.imageId, expect.imageId && [expect.imageId]);
  oneOf("expected-chip", report.chipId, expect.chipIds);
  oneOf("id-key-digest", report.idKeyDigest, expect.idKeyDigests);
  oneOf("author-key-digest", report.authorKeyDigest, expect.authorKeyDigests);
  if (expect.authorKeyDigests !== undefined) {
    flag(
      checks,
      "author-key-required",
      report.authorKeyEn,
      "signed with an author key",
      "without an author key",
    );
  }
  if (expect.vmpl !== undefined) {
    checks.add({
      name: "vmpl",
      ok: report.vmpl === expect.vmpl,
      failure: "refused",
      claimed: String(report.vmpl),
      expected: String(expect.vmpl),
    });
  }
  judgeMinima(report, product, expect, checks);
}

function flag(checks: CheckList, name: string, ok: boolean, yes: string, no: string): void {
  checks.add({ name, ok, failure: "refused", claimed: ok ? yes : no, ...(ok ? {} : { expected: yes }) });
}

function judgePolicy(report: SnpReport, expect: SnpExpectations, checks: CheckList): void {
  const { policy, platformInfo } = report;
  const permit = (name: string, set: boolean, allowed: boolean | undefined, what: string): void => {
    checks.add({
      name,
      ok: !set || allowed === true,
      failure: "refused",
      claimed: set ? what : `not ${what}`,
      expected: allowed === true ? "either" : `not ${what}`,
    });
  };
  permit("policy-debug", policy.debug, expect.allowDebug, "debugging allowed");
  permit("policy-migration", policy.migrateMa, expect.allowMigration, "migration agent allowed");
  permit("requested-by", report.vmpl === VMPL_HOST, expect.allowHostRequest, "asked for by the host");
  if (expect.allowSmt === false) permit("expected-smt", policy.smt, false, "smt allowed");
  if (expect.allowCxl === false) permit("policy-cxl", policy.cxlAllow, false, "cxl allowed");
  if (expect.requireSingleSocket) {
    flag(checks, "policy-single-socket", policy.singleSocket, "one socket only", "several sockets allowed");
  }
  if (expect.requireMemAes256Xts) {
    flag(checks, "policy-mem-aes-256-xts", policy.memAes256Xts, "AES-256-XTS required", "AES-128 allowed");
  }
  if (expect.requireRaplDisabled) {
    flag(checks, "policy-rapl", policy.raplDis, "RAPL must be off", "RAPL may be on");
  }
  if (expect.requireCiphertextHiding) {
    flag(checks, "policy-ciphertext-hiding", policy.ciphertextHiding, "required", "not required");
  }
  if (expect.requirePageSwapDisabled) {
    flag(checks, "policy-page-swap", policy.pageSwapDisable, "page swap is off", "page swap may be on");
  }
  if (expect.requireAliasCheck) {
    flag(checks, "platform-alias-check", platformInfo.aliasCheckComplete, "complete", "not complete");
  }
}

function judgeMinima(
  report: SnpReport,
  product: SnpProduct | undefined,
  expect: SnpExpectations,
  checks: CheckList,
): void {
  if (expect.minimumGuestSvn !== undefined) {
    checks.add({
      name: "guest-svn",
      ok: report.guestSvn >= expect.minimumGuestSvn,
      failure: "refused",
      claimed: String(report.guestSvn),
      expected: `at least ${expect.minimumGuestSvn}`,
    });
  }
  const minimum = (name: string, bytes: Uint8Array, floor: Partial<SnpTcb> | undefined): void => {
    if (floor === undefined) return;
    const tcb = product === undefined ? undefined : decodeTcb(bytes, product);
    const whole: SnpTcb = { bootloader: 0, tee: 0, snp: 0, microcode: 0, ...floor };
    checks.add({
      name,
      ok: tcb !== undefined && tcbAtMost(whole, tcb),
      failure: "refused",
      claimed: tcbText(tcb, bytes),
      expected: `at least ${tcbText(whole, bytes)}`,
    });
  };
  minimum("minimum-tcb", report.reportedTcb, expect.minimumTcb);
  minimum("minimum-launch-tcb", report.launchTcb, expect.minimumLaunchTcb);
  const { current, committed, policy } = report;
  if (expect.minimumFirmware !== undefined) {
    const order = (f: SnpFirmware): number => (f.major << 16) | (f.minor << 8) | f.build;
    const floor = expect.minimumFirmware;
    checks.add({
      name: "minimum-firmware",
      ok: order(current) >= order(floor),
      failure: "refused",
      claimed: `${current.major}.${current.minor}.${current.build}`,
      expected: `at least ${floor.major}.${floor.minor}.${floor.build}`,
    });
  }
  if (expect.allowProvisionalFirmware === false) {
    const same =
      sameBytes(report.currentTcb, report.committedTcb) &&
      current.major === committed.major &&
      current.minor === committed.minor &&
      current.build === committed.build;
    flag(checks, "provisional-firmware", same, "all firmware is committed", "firmware is not committed yet");
  }
  if (expect.minimumAbi !== undefined) {
    const { major, minor } = expect.minimumAbi;
    checks.add({
      name: "minimum-abi",
      ok: (policy.abiMajor << 8) + policy.abiMinor >= (major << 8) + minor,
      failure: "refused",
      claimed: `${policy.abiMajor}.${policy.abiMinor}`,
      expected: `at least ${major}.${minor}`,
    });
  }
}
