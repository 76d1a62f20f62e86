import { ShelterError } from "@shelter/base";

/** What is wrong with something SEV-SNP. */
export type SnpErrorCode = "SNP_REPORT_MALFORMED" | "SNP_CERT_TABLE_MALFORMED" | "SNP_VEK_MALFORMED";

/** Data that is not the report, certificate table or endorsement key it claims to be. */
export class SnpError extends ShelterError<SnpErrorCode> {
  constructor(code: SnpErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, "malformed", message, options);
  }
}
