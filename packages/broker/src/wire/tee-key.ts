import { createPublicKey, type KeyObject } from "node:crypto";
import { BytesError, fromBase64, type Json, type JsonObject } from "@shelter/base";
import { BrokerError } from "../errors.ts";
import { thumbprint } from "../state/signing-key.ts";

/** The guest's fresh public key, in one of the forms resources can be encrypted to. */
export interface TeeKey {
  readonly alg: "ECDH-ES+A256KW" | "RSA-OAEP-256";
  /** Exactly the members it was given with; these are what the report data covers. */
  readonly jwk: JsonObject;
  readonly key: KeyObject;
  /** RFC 7638. */
  readonly thumbprint: string;
}

const CURVES: Readonly<Record<string, number>> = { "P-256": 32, "P-521": 66 };
const RSA_BITS = { min: 2048, max: 8192 }; // smaller is weak, larger only costs us time

/** Reads a `tee-pubkey`. Unknown members are refused: the client's report data would cover what we drop. */
export function parseTeeKey(value: Json | undefined): TeeKey {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw malformed("tee-pubkey is not an object");
  }
  const jwk = value as JsonObject;
  if (jwk["kty"] === "EC") return ecKey(jwk);
  if (jwk["kty"] === "RSA") return rsaKey(jwk);
  throw malformed(`tee-pubkey kty ${shown(jwk["kty"])} is not EC or RSA`);
}

function ecKey(jwk: JsonObject): TeeKey {
  only(jwk, ["kty", "crv", "alg", "x", "y"]);
  const crv = String(jwk["crv"]);
  const size = Object.hasOwn(CURVES, crv) ? CURVES[crv] : undefined;
  if (size === undefined) throw malformed(`tee-pubkey crv ${shown(jwk["crv"])} is not P-256 or P-521`);
  if (jwk["alg"] !== "ECDH-ES+A256KW") {
    throw malformed(`tee-pubkey alg ${shown(jwk["alg"])} is not ECDH-ES+A256KW`);
  }
  const x = coordinate(jwk, "x", size);
  const y = coordinate(jwk, "y", size);
  return {
    alg: "ECDH-ES+A256KW",
    jwk: { alg: "ECDH-ES+A256KW", crv, kty: "EC", x, y },
    key: importKey({ kty: "EC", crv, x, y }),
    thumbprint: thumbprint({ crv, kty: "EC", x, y }),
  };
}

function rsaKey(jwk: JsonObject): TeeKey {
  only(jwk, ["kty", "alg", "n", "e"]);
  if (jwk["alg"] !== "RSA-OAEP-256") {
    throw malformed(
      jwk["alg"] === "RSA1_5"
        ? "tee-pubkey alg RSA1_5 is no longer safe to encrypt to; use RSA-OAEP-256"
        : `tee-pubkey alg ${shown(jwk["alg"])} is not RSA-OAEP-256`,
    );
  }
  const n = jwk["n"];
  if (typeof n !== "string" || jwk["e"] !== "AQAB")
    throw malformed("tee-pubkey has no n, or its e is not AQAB");
  if (n.length > (RSA_BITS.max / 8 + 1) * 2)
    throw malformed(`tee-pubkey n is longer than ${RSA_BITS.max} bits`);
  const bytes = decode(n, "n");
  const bits = bytes.byteLength * 8 - Math.clz32(bytes[0] ?? 0) + 24;
  if (bytes[0] === 0 || bits < RSA_BITS.min || bits > RSA_BITS.max) {
    throw malformed(`tee-pubkey n has ${bits} bits, not ${RSA_BITS.min} to ${RSA_BITS.max}`);
  }
  return {
    alg: "RSA-OAEP-256",
    jwk: { alg: "RSA-OAEP-256", e: "AQAB", kty: "RSA", n },
    key: importKey({ kty: "RSA", n, e: "AQAB" }),
    thumbprint: thumbprint({ e: "AQAB", kty: "RSA", n }),
  };
}

function only(jwk: JsonObject, members: readonly string[]): void {
  for (const name of Object.keys(jwk)) {
    if (!members.includes(name))
      throw malformed(`tee-pubkey has the member ${shown(name)}, which is not part of its form`);
  }
}

/** RFC 7518 section 6.2.1.2: a coordinate has the full length of the field. */
function coordinate(jwk: JsonObject, name: string, size: number): string {
  const value = jwk[name];
  if (typeof value !== "string") throw malformed(`tee-pubkey ${name} is not text`);
  const length = decode(value, name).byteLength;
  if (length !== size) throw malformed(`tee-pubkey ${name} has ${length} bytes, not ${size}`);
  return value;
}

function decode(value: string, name: string): Uint8Array {
  try {
    return fromBase64(value, "base64url");
  } catch (cause) {
    if (cause instanceof BytesError) throw malformed(`tee-pubkey ${name} is not base64url`);
    throw cause;
  }
}

/** OpenSSL refuses a point that is not on its curve. */
function importKey(jwk: Record<string, string>): KeyObject {
  try {
    return createPublicKey({ key: jwk, format: "jwk" });
  } catch {
    throw malformed("tee-pubkey is not a valid key: its point is not on its curve");
  }
}

function shown(value: Json | undefined): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 60);
}

function malformed(message: string): BrokerError {
  return new BrokerError("REQUEST_MALFORMED", "malformed", message);
}
