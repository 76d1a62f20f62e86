import { ShelterError } from "@shelter/base";

/** What is wrong with evidence of an Azure confidential VM. */
export type AzureErrorCode = "AZURE_EVIDENCE_MALFORMED" | "HCL_REPORT_MALFORMED";

/** Evidence of an Azure confidential VM that does not have the form it claims. */
export class AzureError extends ShelterError<AzureErrorCode> {
  constructor(code: AzureErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, "malformed", message, options);
  }
}
