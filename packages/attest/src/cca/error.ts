import { ShelterError } from "@shelter/base";

/** What is wrong with something Arm CCA. */
export type CcaErrorCode = "CCA_TOKEN_MALFORMED" | "CCA_KEY_MALFORMED";

/** Data that is not the attestation token or platform key it claims to be. */
export class CcaError extends ShelterError<CcaErrorCode> {
  constructor(code: CcaErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, "malformed", message, options);
  }
}
