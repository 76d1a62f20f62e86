import { ShelterError } from "@shelter/base";

/** What is wrong with a DCAP quote or its collateral. */
export type DcapErrorCode = "QUOTE_MALFORMED" | "PCK_MALFORMED" | "COLLATERAL_MALFORMED";

/** Data that is not the quote, PCK certificate or collateral it claims to be. */
export class DcapError extends ShelterError<DcapErrorCode> {
  constructor(code: DcapErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, "malformed", message, options);
  }
}
