import { type Field, field, group } from "../describe.ts";
import { productOfCpuid, SNP_PRODUCTS } from "./product.ts";
import { firmwareText, parseSnpReport, type SnpReport } from "./report.ts";
import { decodeTcb, tcbText } from "./tcb.ts";

/** The fields of a report, named as the SEV-SNP ABI specification names them (table 23). */
export function renderSnp(report: Uint8Array | SnpReport): readonly Field[] {
  const r = report instanceof Uint8Array ? parseSnpReport(report) : report;
  const { policy, platformInfo, cpuid } = r;
  const product = cpuid === undefined ? SNP_PRODUCTS[0] : productOfCpuid(cpuid.family, cpuid.model);
  const tcb = (bytes: Uint8Array): string =>
    tcbText(product === undefined ? undefined : decodeTcb(bytes, product), bytes);
  const children: Field[] = [
    field("VERSION", r.version),
    field("GUEST_SVN", r.guestSvn),
    group(
      "POLICY",
      [
        field("ABI_MAJOR", policy.abiMajor),
        field("ABI_MINOR", policy.abiMinor),
        field("SMT", policy.smt),
        field("MIGRATE_MA", policy.migrateMa),
        field("DEBUG", policy.debug),
        field("SINGLE_SOCKET", policy.singleSocket),
        field("CXL_ALLOW", policy.cxlAllow),
        field("MEM_AES_256_XTS", policy.memAes256Xts),
        field("RAPL_DIS", policy.raplDis),
        field("CIPHERTEXT_HIDING_DRAM", policy.ciphertextHiding),
        field("PAGE_SWAP_DISABLE", policy.pageSwapDisable),
      ],
      `0x${policy.raw.toString(16)}`,
    ),
    field("FAMILY_ID", r.familyId),
    field("IMAGE_ID", r.imageId),
    field("VMPL", r.vmpl),
    field("SIGNATURE_ALGO", r.signatureAlgo === 1 ? "1 (ECDSA P-384 with SHA-384)" : r.signatureAlgo),
    field("CURRENT_TCB", tcb(r.currentTcb)),
    group(
      "PLATFORM_INFO",
      [
        field("SMT_EN", platformInfo.smtEn),
        field("TSME_EN", platformInfo.tsmeEn),
        field("ECC_EN", platformInfo.eccEn),
        field("RAPL_DIS", platformInfo.raplDis),
        field("CIPHERTEXT_HIDING_DRAM_EN", platformInfo.ciphertextHidingDramEn),
        field("ALIAS_CHECK_COMPLETE", platformInfo.aliasCheckComplete),
        field("TIO_EN", platformInfo.tioEn),
      ],
      `0x${platformInfo.raw.toString(16)}`,
    ),
    field("AUTHOR_KEY_EN", r.authorKeyEn),
    field("MASK_CHIP_KEY", r.maskChipKey),
    field("SIGNING_KEY", r.signingKey),
    field("REPORT_DATA", r.reportData),
    field("MEASUREMENT", r.measurement),
    field("HOST_DATA", r.hostData),
    field("ID_KEY_DIGEST", r.idKeyDigest),
    field("AUTHOR_KEY_DIGEST", r.authorKeyDigest),
    field("REPORT_ID", r.reportId),
    field("REPORT_ID_MA", r.reportIdMa),
    field("REPORTED_TCB", tcb(r.reportedTcb)),
  ];
  if (cpuid !== undefined) {
    children.push(
      field("CPUID_FAM_ID", `0x${cpuid.family.toString(16)}`),
      field("CPUID_MOD_ID", `0x${cpuid.model.toString(16)}${product === undefined ? "" : ` (${product})`}`),
      field("CPUID_STEP", cpuid.stepping),
    );
  }
  children.push(
    field("CHIP_ID", r.chipId),
    field("COMMITTED_TCB", tcb(r.committedTcb)),
    field("CURRENT_VERSION", firmwareText(r.current)),
    field("COMMITTED_VERSION", firmwareText(r.committed)),
    field("LAUNCH_TCB", tcb(r.launchTcb)),
  );
  if (r.launchMitVector !== undefined) {
    children.push(field("LAUNCH_MIT_VECTOR", `0x${r.launchMitVector.toString(16)}`));
  }
  if (r.currentMitVector !== undefined) {
    children.push(field("CURRENT_MIT_VECTOR", `0x${r.currentMitVector.toString(16)}`));
  }
  children.push(
    field("SIGNATURE.R", r.signature.subarray(0, 48)),
    field("SIGNATURE.S", r.signature.subarray(48)),
  );
  return [group("ATTESTATION_REPORT", children)];
}
