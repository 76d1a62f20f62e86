import { createHash, createPrivateKey, generateKeyPairSync, type KeyObject, sign, verify } from "node:crypto";
import { canonicalJson, type JsonObject, parseJson, toBase64 } from "@shelter/base";
import { bytes, type Database } from "./database.ts";
import type { MasterKey } from "./master-key.ts";

/** The key that signs tokens and audit heads (ES256), the same for every broker on one database. */
export interface SigningKey {
  readonly private: KeyObject;
  /** Public JWK: `kty`, `crv`, `alg`, `x`, `y`. */
  readonly jwk: JsonObject;
  /** RFC 7638 thumbprint. */
  readonly thumbprint: string;
}

const PURPOSE = "signing";

/** Opens the stored key, if there is one. */
export function loadSigningKeyFrom(db: Database, master: MasterKey): SigningKey | null {
  const row = db.one("SELECT sealed FROM keys WHERE purpose = ?", PURPOSE);
  if (!row) return null;
  const der = master.open("key", PURPOSE, bytes(row, "sealed"));
  return describeKey(createPrivateKey({ key: Buffer.from(der), format: "der", type: "pkcs8" }));
}

/** Opens the stored key, or makes and stores it. */
export function loadSigningKey(db: Database, master: MasterKey, now: Date): SigningKey {
  return db.transaction(() => {
    const stored = loadSigningKeyFrom(db, master);
    if (stored) return stored;
    const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
    const key = describeKey(pair.privateKey);
    const der = pair.privateKey.export({ format: "der", type: "pkcs8" });
    db.run(
      "INSERT INTO keys (purpose, public, sealed, created) VALUES (?, ?, ?, ?)",
      PURPOSE,
      canonicalJson(key.jwk),
      master.seal("key", PURPOSE, der),
      now.toISOString(),
    );
    return key;
  });
}

function describeKey(key: KeyObject): SigningKey {
  const { crv, kty, x, y } = key.export({ format: "jwk" });
  if (crv !== "P-256" || kty !== "EC" || x === undefined || y === undefined) {
    throw new TypeError(`signing key is ${kty} ${crv}, not EC P-256`);
  }
  return { private: key, jwk: { alg: "ES256", crv, kty, x, y }, thumbprint: thumbprint({ crv, kty, x, y }) };
}

/** RFC 7638 thumbprint of the required members of a JWK. */
export function thumbprint(required: JsonObject): string {
  return createHash("sha256").update(canonicalJson(required)).digest("base64url");
}

/** Compact JWS over canonical JSON. */
export function signStatement(key: SigningKey, statement: JsonObject): string {
  const header = toBase64(Buffer.from(canonicalJson({ alg: "ES256", kid: key.thumbprint })), "base64url");
  const input = `${header}.${toBase64(Buffer.from(canonicalJson(statement)), "base64url")}`;
  const signature = sign("sha256", Buffer.from(input), { key: key.private, dsaEncoding: "ieee-p1363" });
  return `${input}.${toBase64(signature, "base64url")}`;
}

/** The statement of a compact JWS this key signed, or null. The algorithm is ours to choose, not the header's. */
export function openStatement(key: KeyObject, jws: string): JsonObject | null {
  const [header, payload, signature, ...rest] = jws.split(".");
  if (header === undefined || payload === undefined || signature === undefined || rest.length > 0)
    return null;
  const good = verify(
    "sha256",
    Buffer.from(`${header}.${payload}`),
    { key, dsaEncoding: "ieee-p1363" },
    Buffer.from(signature, "base64url"),
  );
  if (!good) return null;
  const statement = parseJson(Buffer.from(payload, "base64url").toString("utf8"), "signed statement");
  return statement !== null && typeof statement === "object" && !Array.isArray(statement)
    ? (statement as JsonObject)
    : null;
}
