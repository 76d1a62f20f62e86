export { type CertTableKind, parseCertTable } from "./cert-table.ts";
export { SnpCollateral, type SnpFiles } from "./collateral.ts";
export { SnpError, type SnpErrorCode } from "./error.ts";
export type { SnpExpectations } from "./expect.ts";
export { productOfCpuid, SNP_PRODUCTS, type SnpProduct } from "./product.ts";
export { renderSnp } from "./render.ts";
export {
  parseSnpPolicy,
  parseSnpReport,
  SNP_REPORT_SIZE,
  type SnpPolicy,
  type SnpReport,
  type SnpSigningKey,
} from "./report.ts";
export { AMD_CERTIFICATES } from "./roots.ts";
export { decodeTcb, type SnpTcb } from "./tcb.ts";
export { parseSnpEvidence, type SnpEvidence } from "./trustee.ts";
export { readVek, type Vek } from "./vek.ts";
export { type SnpInput, verifySnp } from "./verify.ts";
