import { createPublicKey } from "node:crypto";
import { describe, type Json, type JsonObject } from "@shelter/base";
import { type JWTPayload, jwtVerify, SignJWT } from "jose";
import type { SigningKey } from "../state/signing-key.ts";

/** The issuer Trustee's attestation service names itself; its clients and policies know no other. */
export const ISSUER = "CoCo-Attestation-Service";

const PROFILE = "tag:github.com,2024:confidential-containers/Trustee";
const LIFETIME_S = 5 * 60;
const MAX_TOKEN = 64 * 1024;

/** What a token says about a guest. */
export interface TokenSubject {
  readonly session: string;
  readonly tee: string;
  readonly workloads: readonly string[];
  readonly nonce: string;
  readonly teeKey: JsonObject;
  readonly reportDataHex: string;
  readonly measurements: Readonly<Record<string, string>>;
}

/** Signs an EAT attestation result (EAR) as Trustee issues them, for an affirmed guest. */
export async function issueToken(
  key: SigningKey,
  subject: TokenSubject,
  now: Date,
): Promise<{ token: string; expires: Date }> {
  const iat = Math.floor(now.getTime() / 1000);
  const exp = iat + LIFETIME_S;
  const claims: Record<string, string> = { report_data: subject.reportDataHex };
  for (const [pcr, value] of Object.entries(subject.measurements))
    claims[`pcr${pcr.padStart(2, "0")}`] = value;
  const payload = {
    eat_profile: PROFILE,
    iat,
    exp,
    iss: ISSUER,
    jti: subject.session,
    "ear.verifier-id": {
      developer: "https://github.com/inclavare-containers/Shelter",
      build: "shelter 0.1.0",
    },
    submods: {
      cpu0: {
        "ear.status": "affirming",
        // AR4SI values: 2 affirms the part, 0 claims nothing; 3 says executables are the approved set.
        "ear.trustworthiness-vector": {
          "instance-identity": 2,
          configuration: 2,
          executables: 3,
          "file-system": 2,
          hardware: 2,
          "runtime-opaque": 0,
          "storage-opaque": 0,
          "sourced-data": 0,
        },
        "ear.appraisal-policy-id": "default",
        "ear.veraison.annotated-evidence": {
          [subject.tee]: claims,
          init_data: "",
          init_data_claims: {},
          report_data: subject.reportDataHex,
          runtime_data_claims: { nonce: subject.nonce, "tee-pubkey": subject.teeKey },
          workloads: subject.workloads,
        },
      },
    },
  };
  const { alg, crv, kty, x, y } = key.jwk as Record<string, string>;
  const token = await new SignJWT(payload as JWTPayload)
    .setProtectedHeader({ typ: "JWT", alg: "ES256", jwk: { alg, crv, kty, x, y } as never })
    .sign(key.private);
  return { token, expires: new Date(exp * 1000) };
}

/** The session a token was issued for, or why it is not believed. */
export type TokenReading = { readonly session: string } | { readonly reason: string };

/**
 * Verifies a token with our own key and algorithm; whatever key or algorithm its header names is not
 * looked at.
 */
export async function readToken(key: SigningKey, token: string, now: Date): Promise<TokenReading> {
  if (token.length > MAX_TOKEN) return { reason: `token is longer than ${MAX_TOKEN} characters` };
  try {
    const { payload } = await jwtVerify(token, createPublicKey(key.private), {
      algorithms: ["ES256"],
      issuer: ISSUER,
      requiredClaims: ["exp", "iat", "jti"],
      currentDate: now,
      typ: "JWT",
    });
    const session: Json | undefined = payload.jti;
    return typeof session === "string" ? { session } : { reason: "token names no session" };
  } catch (error) {
    return { reason: `token is not believed: ${describe(error)}` };
  }
}
