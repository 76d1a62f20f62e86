import { ShelterError } from "@shelter/base";

/** What is wrong with a TPM structure. */
export type TpmErrorCode = "TPM_MALFORMED" | "TPM_UNSUPPORTED" | "TPM_EVIDENCE_MALFORMED";

/** Data that is not the TPM structure it claims to be, or one of a kind this library does not take. */
export class TpmError extends ShelterError<TpmErrorCode> {
  constructor(code: TpmErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, code === "TPM_UNSUPPORTED" ? "refused" : "malformed", message, options);
  }
}
