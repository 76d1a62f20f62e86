import { createPublicKey, type KeyObject, verify } from "node:crypto";
import type { Certificate } from "../x509/index.ts";
import { keyObject } from "../x509/index.ts";

const P256_SPKI = Buffer.from("3059301306072a8648ce3d020106082a8648ce3d03010703420004", "hex");

/** The P-256 key of X and Y as a quote has them; undefined when the point is not on the curve. */
export function p256Key(xy: Uint8Array): KeyObject | undefined {
  try {
    return createPublicKey({ key: Buffer.concat([P256_SPKI, xy]), format: "der", type: "spki" });
  } catch {
    return undefined;
  }
}

/** The P-256 key of a certificate; undefined for any other key. */
export function certificateP256Key(certificate: Certificate): KeyObject | undefined {
  const { publicKey } = certificate;
  return publicKey.kind === "ec" && publicKey.name === "P-256" ? keyObject(publicKey) : undefined;
}

/** Whether r and s, 32 bytes each, sign the data. OpenSSL refuses zeros and values not below the order. */
export function verifyP256(key: KeyObject | undefined, data: Uint8Array, signature: Uint8Array): boolean {
  return key !== undefined && verify("sha256", data, { key, dsaEncoding: "ieee-p1363" }, signature);
}
