import type { DcapFiles } from "../sgx/index.ts";
import { JudgeError } from "./error.ts";
import type { Expectations } from "./expectations.ts";
import { present } from "./present.ts";

/** Platforms evidence can be judged for. */
export const PLATFORMS = [
  "snp",
  "tdx",
  "sgx",
  "csv",
  "tpm",
  "az-snp-vtpm",
  "az-tdx-vtpm",
  "cca",
  "nitro",
] as const;

/** One of them. */
export type Platform = (typeof PLATFORMS)[number];

/** Files by their role: `report`, `vek`, `quote`, `tcb_info`, `root` and so on. */
export type RoleFiles = Readonly<Record<string, Uint8Array | undefined>>;

/** One judgement over files whose roles are known. */
export interface RoleRequest {
  readonly platform: Platform;
  readonly files: RoleFiles;
  readonly at: Date;
  readonly expect: Expectations;
}

/** The file of a role, or a verdict that says it is missing. */
export function need(files: RoleFiles, role: string): Uint8Array {
  const file = files[role];
  if (file === undefined) throw new JudgeError("EVIDENCE_INCOMPLETE", `no ${role} was given`);
  return file;
}

/** Intel's collateral out of files; undefined when there is none at all. */
export function dcapFiles(files: RoleFiles): DcapFiles | undefined {
  const collateral = present({
    tcbInfo: files["tcb_info"],
    qeIdentity: files["qe_identity"],
    tcbInfoChain: files["tcb_info_chain"],
    qeIdentityChain: files["qe_identity_chain"],
    pckChain: files["pck_chain"],
    pckCrl: files["pck_crl"],
    pckCrlChain: files["pck_crl_chain"],
    rootCrl: files["root_crl"],
  });
  return Object.keys(collateral).length === 0 ? undefined : collateral;
}
