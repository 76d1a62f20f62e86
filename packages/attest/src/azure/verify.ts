import { toHex } from "@shelter/base";
import type { DcapFiles } from "../sgx/index.ts";
import { type SnpExpectations, verifySnp } from "../snp/index.ts";
import { type TdxExpectations, verifyTdx } from "../tdx/index.ts";
import { type TpmExpectations, verifyTpmEvidence } from "../tpm/index.ts";
import { CheckList, type Verdict } from "../verdict.ts";
import type { AzureEvidence } from "./evidence.ts";

/** Azure evidence, its collateral, and what is expected of it. */
export interface AzureInput {
  readonly evidence: AzureEvidence;
  /** The challenge: what the quote's nonce must be. */
  readonly nonce?: Uint8Array;
  /** User data the runtime data must show, hex in any case. */
  readonly userData?: string;
  /** SNP: VCEK instead of the one in the evidence, and the CA between it and the root. */
  readonly vek?: Uint8Array;
  readonly ca?: Uint8Array;
  /** TDX: collateral of Intel's. */
  readonly collateral?: DcapFiles;
  /** The one hardware root to use instead of the vendor's. */
  readonly root?: Uint8Array;
  readonly snp?: SnpExpectations;
  readonly tdx?: TdxExpectations;
  readonly tpm?: TpmExpectations;
  /**
   * `leave`: without TDX collateral, say nothing about how current the platform is, but still
   * demand a quote signed under Intel's root. The default then finds the evidence incomplete.
   */
  readonly platformTcb?: "judge" | "leave";
  readonly at: Date;
}

/**
 * Judges evidence of an Azure confidential VM: the hardware's report vouches for the paravisor's
 * runtime data, that names the vTPM's attestation key, and a quote by that key answers the challenge.
 */
export function verifyAzure(input: AzureInput): Verdict {
  const { hcl } = input.evidence;
  const checks = new CheckList();
  const hardware = hcl.kind === "snp" ? judgeSnp(input, checks) : judgeTdx(input, checks);
  const tpm = verifyTpmEvidence({
    evidence: {
      quote: input.evidence.quote,
      signature: input.evidence.signature,
      akPublic: hcl.akPublic,
      ...(input.evidence.pcrs === undefined ? {} : { pcrs: input.evidence.pcrs }),
    },
    ...(input.nonce === undefined ? {} : { nonce: input.nonce }),
    trust: { by: "caller" },
    ...(input.tpm === undefined ? {} : { expectations: input.tpm }),
    at: input.at,
  });
  checks.adopt(tpm);
  if (input.userData !== undefined) {
    checks.add({
      name: "user-data",
      ok: hcl.userData?.toLowerCase() === input.userData.toLowerCase(),
      failure: "untrusted",
      claimed: hcl.userData ?? "none",
      expected: input.userData,
    });
  }
  return checks.verdict(`az-${hcl.kind}-vtpm`, {
    ...tpm.claims,
    hcl_report_type: hcl.reportType,
    hcl_version: hcl.version,
    var_data_hash: toHex(hcl.varDataHash),
    user_data: hcl.userData?.toLowerCase(),
    secure_boot: hcl.vmConfiguration["secure-boot"],
    vm_configuration: hcl.vmConfiguration,
    pcrs_sha256: (tpm.claims["pcrs"] as Record<string, unknown> | undefined)?.["sha256"],
    [hcl.kind]: hardware.claims,
  });
}

function judgeSnp(input: AzureInput, checks: CheckList): Verdict {
  const { hcl } = input.evidence;
  const vek = input.vek ?? input.evidence.vcek;
  const verdict = verifySnp({
    report: hcl.hardwareReport,
    ...(vek === undefined ? {} : { vek }),
    ...(input.ca === undefined ? {} : { ca: input.ca }),
    ...(input.root === undefined ? {} : { root: input.root }),
    at: input.at,
    // Only the paravisor runs at VMPL 0; a report from a lower level may carry any report data.
    expect: { vmpl: 0, ...input.snp, reportData: hcl.varDataHash },
  });
  checks.adopt(verdict, "snp-");
  return verdict;
}

function judgeTdx(input: AzureInput, checks: CheckList): Verdict {
  const { hcl, tdQuote } = input.evidence;
  if (tdQuote === undefined) {
    checks.add({ name: "td-quote", ok: false, failure: "malformed", detail: "the evidence has no TD quote" });
    return checks.verdict("tdx", {});
  }
  const verdict = verifyTdx({
    quote: tdQuote,
    ...(input.collateral === undefined ? {} : { collateral: input.collateral }),
    ...(input.root === undefined ? {} : { root: input.root }),
    at: input.at,
    expect: { ...input.tdx, reportData: hcl.varDataHash },
  });
  const leave = input.platformTcb === "leave" && input.collateral === undefined;
  checks.adopt(leave ? withoutMissingTcb(verdict) : verdict, "tdx-");
  return verdict;
}

/** The verdict without what Intel's collateral would have added; a missing PCK certificate stays missing. */
function withoutMissingTcb(verdict: Verdict): Verdict {
  const stays = (what: string | undefined): boolean => what?.startsWith("pck certificate") ?? true;
  return {
    ...verdict,
    checks: verdict.checks.filter((c) => c.name !== "collateral" || stays(c.expected)),
    missing: verdict.missing.filter(stays),
  };
}
