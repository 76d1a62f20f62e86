import { constants, type KeyObject, verify } from "node:crypto";
import { ByteReader } from "@shelter/base";
import { ALG, hashAvailable, hashById, type TpmHash } from "./algorithm.ts";
import { TpmError } from "./error.ts";
import { padded } from "./public.ts";

/** A TPMT_SIGNATURE (TPM 2.0 part 2, section 11.3.4). */
export type TpmSignature =
  | { readonly kind: "rsassa" | "rsapss"; readonly hash: TpmHash; readonly signature: Uint8Array }
  | { readonly kind: "ecdsa"; readonly hash: TpmHash; readonly r: Uint8Array; readonly s: Uint8Array };

/** Parses a TPMT_SIGNATURE by RSASSA, RSAPSS or ECDSA. */
export function parseTpmSignature(bytes: Uint8Array): TpmSignature {
  const reader = new ByteReader(bytes, "TPMT_SIGNATURE");
  const algorithm = reader.u16be();
  if (algorithm !== ALG.rsassa && algorithm !== ALG.rsapss && algorithm !== ALG.ecdsa) {
    throw new TpmError("TPM_UNSUPPORTED", `TPMT_SIGNATURE: scheme 0x${algorithm.toString(16)}`);
  }
  const id = reader.u16be();
  const hash = hashById(id);
  if (hash === undefined) throw new TpmError("TPM_UNSUPPORTED", `TPMT_SIGNATURE: hash 0x${id.toString(16)}`);
  if (algorithm === ALG.ecdsa) {
    const r = reader.take(reader.u16be());
    const s = reader.take(reader.u16be());
    reader.end();
    return { kind: "ecdsa", hash, r, s };
  }
  const signature = reader.take(reader.u16be());
  reader.end();
  return { kind: algorithm === ALG.rsassa ? "rsassa" : "rsapss", hash, signature };
}

/** Name of a signature's scheme, as `RSASSA-SHA256`. */
export function signatureName(signature: TpmSignature): string {
  return `${signature.kind.toUpperCase()}-${signature.hash.toUpperCase()}`;
}

const CURVE_BYTES: Readonly<Record<string, number>> = { prime256v1: 32, secp384r1: 48, secp521r1: 66 };
const MIN_RSA_BITS = 2048;
const MAX_RSA_BITS = 8192;

/** Whether the signature over `data` is by this key. SHA-1, small keys and wrong curves are not valid; never throws. */
export function verifyTpmSignature(key: KeyObject, signature: TpmSignature, data: Uint8Array): boolean {
  if (signature.hash === "sha1" || !hashAvailable(signature.hash)) return false;
  try {
    if (signature.kind === "ecdsa") {
      const size = CURVE_BYTES[key.asymmetricKeyDetails?.namedCurve ?? ""];
      if (key.asymmetricKeyType !== "ec" || size === undefined) return false;
      const rs = Buffer.concat([padded(signature.r, size), padded(signature.s, size)]);
      return verify(signature.hash, data, { key, dsaEncoding: "ieee-p1363" }, rs);
    }
    const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
    if (key.asymmetricKeyType !== "rsa" || bits < MIN_RSA_BITS || bits > MAX_RSA_BITS) return false;
    if (signature.kind === "rsassa") {
      return verify(signature.hash, data, { key, padding: constants.RSA_PKCS1_PADDING }, signature.signature);
    }
    // Which salt length a TPM takes depends on its maker and its FIPS mode, so any is right (part 1, B.7).
    const options = {
      key,
      padding: constants.RSA_PKCS1_PSS_PADDING,
      saltLength: constants.RSA_PSS_SALTLEN_AUTO,
    };
    return verify(signature.hash, data, options, signature.signature);
  } catch {
    return false; // numbers longer than the curve, and the like
  }
}
