import { fromHex, sameBytes, toHex } from "@shelter/base";
import {
  type AzureEvidence,
  azureEvidence,
  parseAzureEvidence,
  parseHclReport,
  verifyAzure,
} from "../azure/index.ts";
import { CheckList, type Verdict } from "../verdict.ts";
import { dcapFiles, need, type RoleFiles, type RoleRequest } from "./files.ts";
import { present } from "./present.ts";

/** Judges Azure evidence given as its JSON, as separate files, or both; both must then say the same. */
export function judgeAzureFiles({ files, at, expect }: RoleRequest): Verdict {
  const evidence = readEvidence(files);
  const verdict = verifyAzure(
    present({
      evidence,
      nonce: expect.reportData,
      userData: expect.userData && toHex(expect.userData),
      vek: files["vek"],
      ca: files["ca"],
      collateral: dcapFiles(files),
      root: files["root"],
      snp: present({ measurements: expect.measurements, allowDebug: expect.allowDebug }),
      tdx: present({
        mrTds: expect.measurements,
        allowDebug: expect.allowDebug,
        allowTcbStatuses: expect.allowTcbStatuses,
      }),
      tpm: present({ references: expect.pcrs }),
      platformTcb: expect.leavePlatformTcb === true ? ("leave" as const) : ("judge" as const),
      at,
    }),
  );
  if (files["evidence_json"] === undefined) return verdict;
  const checks = new CheckList();
  checks.adopt(verdict);
  const differing = differences(evidence, files);
  checks.add({
    name: "evidence-files",
    ok: differing.length === 0,
    failure: "untrusted",
    ...(differing.length === 0
      ? {}
      : { detail: `the evidence and ${differing.join(", ")} beside it differ` }),
  });
  return checks.verdict(verdict.platform, verdict.claims);
}

function readEvidence(files: RoleFiles): AzureEvidence {
  const json = files["evidence_json"];
  if (json !== undefined) return parseAzureEvidence(new TextDecoder().decode(json));
  return azureEvidence({
    hclReport: need(files, "hcl_report"),
    quote: need(files, "tpm_quote"),
    signature: need(files, "tpm_signature"),
    vcek: files["vek"],
    tdQuote: files["td_quote"],
  });
}

/** Roles of files that do not hold what the evidence holds. */
function differences(evidence: AzureEvidence, files: RoleFiles): string[] {
  const { hcl, quote, signature, tdQuote } = evidence;
  const report = files["hcl_report"];
  const varData = files["var_data"];
  const value = signature.kind === "ecdsa" ? fromHex("") : signature.signature;
  const differ = (role: string, held: Uint8Array | undefined): string[] => {
    const file = files[role];
    return file === undefined || (held !== undefined && sameBytes(file, held)) ? [] : [role];
  };
  return [
    ...(report === undefined || sameBytes(parseHclReport(report).varData, hcl.varData) ? [] : ["hcl_report"]),
    ...(report === undefined || sameBytes(parseHclReport(report).hardwareReport, hcl.hardwareReport)
      ? []
      : ["hcl_report"]),
    ...(varData === undefined || sameBytes(varData, hcl.varData) ? [] : ["var_data"]),
    ...differ("tpm_quote", quote.raw),
    ...differ("tpm_signature", value),
    ...differ("td_quote", tdQuote),
  ];
}
