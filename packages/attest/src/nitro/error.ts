import { ShelterError } from "@shelter/base";

/** What is wrong with something AWS Nitro. */
export type NitroErrorCode = "NITRO_DOCUMENT_MALFORMED";

/** Data that is not the attestation document it claims to be. */
export class NitroError extends ShelterError<NitroErrorCode> {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("NITRO_DOCUMENT_MALFORMED", "malformed", message, options);
  }
}
