import { type Field, field, group } from "../describe.ts";
import { parseTpmQuote } from "./attest.ts";
import { parseTpmPublic, type TpmPublic } from "./public.ts";
import { parseTpmSignature, signatureName } from "./signature.ts";

/** A quote field by field, named as TPM 2.0 part 2 names them. */
export function renderTpmQuote(bytes: Uint8Array): readonly Field[] {
  const quote = parseTpmQuote(bytes);
  return [
    field("magic", quote.magic.toString(16)),
    field("type", "TPM_ST_ATTEST_QUOTE"),
    field("qualifiedSigner", quote.qualifiedSigner),
    field("extraData", quote.extraData),
    group("clockInfo", [
      field("clock", quote.clock),
      field("resetCount", quote.resetCount),
      field("restartCount", quote.restartCount),
      field("safe", quote.safe),
    ]),
    field("firmwareVersion", quote.firmwareVersion.toString(16).padStart(16, "0")),
    group(
      "attested",
      [
        group(
          "pcrSelect",
          quote.pcrSelect.map((s) => field(s.hash, s.pcrs.join(", "))),
        ),
        field("pcrDigest", quote.pcrDigest),
      ],
      "TPMS_QUOTE_INFO",
    ),
  ];
}

/** A TPMT_SIGNATURE field by field. */
export function renderTpmSignature(bytes: Uint8Array): readonly Field[] {
  const signature = parseTpmSignature(bytes);
  return signature.kind === "ecdsa"
    ? [
        field("sigAlg", signatureName(signature)),
        field("signatureR", signature.r),
        field("signatureS", signature.s),
      ]
    : [field("sigAlg", signatureName(signature)), field("sig", signature.signature)];
}

/** A TPMT_PUBLIC field by field. */
export function renderTpmPublic(bytes: Uint8Array | TpmPublic): readonly Field[] {
  const area = bytes instanceof Uint8Array ? parseTpmPublic(bytes) : bytes;
  const { key } = area;
  return [
    field("type", key.kind === "rsa" ? "TPM_ALG_RSA" : "TPM_ALG_ECC"),
    field("nameAlg", area.nameAlg),
    field("objectAttributes", [...area.attributes].join(" ")),
    field("authPolicy", area.authPolicy),
    group(
      "parameters",
      key.kind === "rsa"
        ? [field("keyBits", key.bits), field("exponent", key.exponent)]
        : [field("curveID", key.curve)],
    ),
    group("unique", key.kind === "rsa" ? [field("n", key.modulus)] : [field("x", key.x), field("y", key.y)]),
    field("name", area.name),
  ];
}
