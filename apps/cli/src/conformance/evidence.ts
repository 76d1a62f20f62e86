import { type Expectations, judgeRoles, type Platform, type RoleFiles, type Verdict } from "@shelter/attest";
import { fromHex, type Json } from "@shelter/base";
import { CorpusError, type CorpusItem } from "./corpus.ts";

/** Judges an item of evidence: its roles and inputs laid onto the platform's verifier. */
export function judgeEvidenceItem(item: CorpusItem, files: RoleFiles): Verdict {
  return judgeRoles({
    platform: platformOf(item, files),
    files,
    // Evidence without dates is judged at the time the corpus was made for.
    at: item.verifyAt ?? new Date("2026-01-01T00:00:00Z"),
    expect: expectations(item, files),
  });
}

function platformOf(item: CorpusItem, files: RoleFiles): Platform {
  switch (item.tee) {
    case "snp":
    case "tdx":
    case "sgx":
    case "csv":
    case "cca":
    case "nitro":
      return item.tee;
    case "az-snp-vtpm":
    case "az-tdx-vtpm":
      return item.tee;
    case "tpm": {
      const azure = files["hcl_report"] ?? files["var_data"] ?? files["td_quote"];
      if (azure === undefined && !azureJson(files["evidence_json"])) return "tpm";
      return files["td_quote"] === undefined ? "az-snp-vtpm" : "az-tdx-vtpm";
    }
    default:
      throw new CorpusError("CORPUS_MALFORMED", `${item.id}: no verifier for ${item.tee}`);
  }
}

function azureJson(bytes: Uint8Array | undefined): boolean {
  return bytes !== undefined && Buffer.from(bytes).includes('"hcl_report"');
}

function expectations(item: CorpusItem, files: RoleFiles): Expectations {
  const hex = (key: string): Uint8Array | undefined => {
    const value: Json | undefined = item.inputs[key];
    // Empty means something in a Nitro document only: that there is no nonce.
    return typeof value === "string" && (value !== "" || item.tee === "nitro") ? fromHex(value) : undefined;
  };
  const bound = hex("expected_report_data") ?? hex("expected_nonce") ?? hex("expected_challenge");
  const userData = hex("expected_user_data");
  const mnonce = hex("mnonce");
  const magic = hex("wrapper_magic");
  const flags = item.inputs["wrapper_flags"];
  return {
    ...(bound === undefined ? {} : { reportData: bound }),
    ...(userData === undefined ? {} : { userData }),
    ...(mnonce === undefined ? {} : { mnonce }),
    ...(magic === undefined || typeof flags !== "number" ? {} : { csvWrapper: { magic, flags } }),
    // The corpus says of its Azure items that the currency of the platform is not judged there.
    leavePlatformTcb: files["tcb_info"] === undefined && item.tee === "tpm",
  };
}
