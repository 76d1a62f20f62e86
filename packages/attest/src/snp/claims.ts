import { toHex } from "@shelter/base";
import type { SnpProduct } from "./product.ts";
import { firmwareText, type SnpReport } from "./report.ts";
import { decodeTcb } from "./tcb.ts";
import type { Vek } from "./vek.ts";

/** The values of a report under the names the standard gives them, hex for bytes. */
export function snpClaims(
  report: SnpReport,
  product: SnpProduct | undefined,
  vek: Vek | undefined,
): Readonly<Record<string, unknown>> {
  const { policy, platformInfo } = report;
  const tcb = (bytes: Uint8Array): unknown =>
    (product === undefined ? undefined : decodeTcb(bytes, product)) ?? toHex(bytes);
  return {
    version: report.version,
    guest_svn: report.guestSvn,
    policy: `0x${policy.raw.toString(16)}`,
    policy_bits: {
      abi_major: policy.abiMajor,
      abi_minor: policy.abiMinor,
      smt: policy.smt,
      migrate_ma: policy.migrateMa,
      debug: policy.debug,
      single_socket: policy.singleSocket,
      cxl_allow: policy.cxlAllow,
      mem_aes_256_xts: policy.memAes256Xts,
      rapl_dis: policy.raplDis,
      ciphertext_hiding_dram: policy.ciphertextHiding,
      page_swap_disable: policy.pageSwapDisable,
    },
    family_id: toHex(report.familyId),
    image_id: toHex(report.imageId),
    vmpl: report.vmpl,
    sig_algo: report.signatureAlgo,
    current_tcb: toHex(report.currentTcb),
    platform_info: Number(platformInfo.raw),
    platform_info_bits: {
      smt_en: platformInfo.smtEn,
      tsme_en: platformInfo.tsmeEn,
      ecc_en: platformInfo.eccEn,
      rapl_dis: platformInfo.raplDis,
      ciphertext_hiding_dram_en: platformInfo.ciphertextHidingDramEn,
      alias_check_complete: platformInfo.aliasCheckComplete,
      tio_en: platformInfo.tioEn,
    },
    author_key_en: report.authorKeyEn ? 1 : 0,
    mask_chip_key: report.maskChipKey ? 1 : 0,
    signing_key: report.signingKey,
    report_data: toHex(report.reportData),
    measurement: toHex(report.measurement),
    host_data: toHex(report.hostData),
    id_key_digest: toHex(report.idKeyDigest),
    author_key_digest: toHex(report.authorKeyDigest),
    report_id: toHex(report.reportId),
    report_id_ma: toHex(report.reportIdMa),
    reported_tcb: toHex(report.reportedTcb),
    reported_tcb_parsed: tcb(report.reportedTcb),
    ...(report.cpuid === undefined ? {} : { cpuid: report.cpuid }),
    chip_id: toHex(report.chipId),
    committed_tcb: toHex(report.committedTcb),
    current: firmwareText(report.current),
    committed: firmwareText(report.committed),
    launch_tcb: toHex(report.launchTcb),
    ...(report.launchMitVector === undefined
      ? {}
      : { launch_mit_vector: `0x${report.launchMitVector.toString(16)}` }),
    ...(report.currentMitVector === undefined
      ? {}
      : { current_mit_vector: `0x${report.currentMitVector.toString(16)}` }),
    ...(vek === undefined ? {} : { product: vek.productName }),
    ...(vek?.cspId === undefined ? {} : { csp_id: vek.cspId }),
  };
}
