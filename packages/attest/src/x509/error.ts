import { ShelterError } from "@shelter/base";

/** What is wrong with something X.509. */
export type X509ErrorCode = "DER_MALFORMED" | "CERTIFICATE_MALFORMED" | "CRL_MALFORMED" | "PEM_MALFORMED";

/** Data that is not the DER, certificate, CRL or PEM it claims to be. */
export class X509Error extends ShelterError<X509ErrorCode> {
  constructor(code: X509ErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, "malformed", message, options);
  }
}
