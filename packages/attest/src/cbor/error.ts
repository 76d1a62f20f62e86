import { ShelterError } from "@shelter/base";

/** What is wrong with something CBOR or COSE. */
export type CborErrorCode = "CBOR_MALFORMED" | "COSE_MALFORMED";

/** Data that is not the CBOR or COSE it claims to be, or CBOR that could be read in two ways. */
export class CborError extends ShelterError<CborErrorCode> {
  constructor(code: CborErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, "malformed", message, options);
  }
}
