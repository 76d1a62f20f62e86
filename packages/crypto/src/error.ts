import { type ErrorKind, ShelterError } from "@shelter/base";

/** What an operation of this package refuses, by name. */
export type CryptoErrorCode =
  | "SM2_POINT"
  | "SM2_SCALAR"
  | "SM2_SIGNATURE"
  | "SM2_IDENTITY"
  | "SM2_CIPHERTEXT"
  | "SM2_PLAINTEXT"
  | "SM4_KEY"
  | "SM4_IV"
  | "SM4_LENGTH"
  | "SM4_PADDING"
  | "SM4_TAG_LENGTH"
  | "SM4_TAG";

/** Input that an SM2, SM3 or SM4 operation does not accept. */
export class CryptoError extends ShelterError<CryptoErrorCode> {
  constructor(code: CryptoErrorCode, message: string, kind: ErrorKind = "malformed") {
    super(code, kind, message);
  }
}
