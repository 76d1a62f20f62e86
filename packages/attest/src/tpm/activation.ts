import { SecretBytes } from "@shelter/base";
import { keyObject, parseCertificate } from "../x509/index.ts";
import { type Credential, endorsementKey, makeCredential } from "./credential.ts";
import { TpmError } from "./error.ts";
import { parseTpm2bPublic } from "./public.ts";

/** What a session keeps between the challenge and the evidence. */
export interface Activation {
  /** To send: only the TPM of the endorsement certificate opens it. */
  readonly credential: Credential;
  readonly secret: SecretBytes;
  /** DER of the certificate it was made for, not verified yet: `verifyTpmEvidence` does that. */
  readonly ekCertificate: Uint8Array;
  readonly akName: Uint8Array;
}

const SECRET_BYTES = 32;

/**
 * The challenge for a TPM: a fresh secret wrapped for the endorsement key of a certificate and the
 * name of an attestation key, both as the guest claims them. `random(n)` gives n unpredictable bytes.
 */
export function startActivation(
  ekCertificate: Uint8Array,
  akTpmPublic: Uint8Array,
  random: (count: number) => Uint8Array,
): Activation {
  const certificate = parseCertificate(ekCertificate, "ek_certificate");
  const key = keyObject(certificate.publicKey);
  if (key === undefined) {
    throw new TpmError("TPM_UNSUPPORTED", `ek_certificate: no usable key (${certificate.publicKey.name})`);
  }
  const { name } = parseTpm2bPublic(akTpmPublic);
  const secret = random(SECRET_BYTES);
  return {
    credential: makeCredential(endorsementKey(key), name, secret, random),
    secret: new SecretBytes(secret),
    ekCertificate,
    akName: name,
  };
}
