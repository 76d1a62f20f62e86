import { fromBase64, fromHex, type Json, type JsonObject, parseJson } from "@shelter/base";
import { type EcKey, ecKey, parseSec1Point } from "../cbor/index.ts";
import { isPem, parsePemBlocks, readPublicKey } from "../x509/index.ts";
import { CcaError } from "./error.ts";

/** A platform attestation key (CPAK), with the platform it is of where that is said. */
export interface CcaPlatformKey {
  readonly key: EcKey;
  readonly implementationId: Uint8Array | undefined;
  readonly instanceId: Uint8Array | undefined;
}

const MAX_SIZE = 1024 * 1024;
const MAX_KEYS = 10_000;

const fail = (why: string, cause?: unknown): CcaError =>
  new CcaError("CCA_KEY_MALFORMED", `cca platform key: ${why}`, cause === undefined ? {} : { cause });

/**
 * Reads the platform keys to trust: one public key (JWK, PEM or DER SubjectPublicKeyInfo), or a list of them in the
 * form of Veraison's trust anchor store, each with the platform it is of.
 */
export function parseCcaPlatformKeys(bytes: Uint8Array): readonly CcaPlatformKey[] {
  if (bytes.byteLength > MAX_SIZE) throw fail(`${bytes.byteLength} bytes, at most ${MAX_SIZE}`);
  const text = new TextDecoder().decode(bytes);
  if (/^\s*[[{]/.test(text)) {
    const json = parseJson(text, "cca platform key");
    if (Array.isArray(json)) return readStore(json as readonly Json[]);
    return [{ key: readJwk(json), implementationId: undefined, instanceId: undefined }];
  }
  let der = bytes;
  if (isPem(bytes)) {
    const [block, second] = parsePemBlocks(text, "cca platform key");
    if (block?.label !== "PUBLIC KEY" || second !== undefined) throw fail("expected one PUBLIC KEY block");
    der = block.der;
  }
  const info = readPublicKey(der, "cca platform key");
  if (info.kind !== "ec") throw fail(`is ${info.name}, expected P-256, P-384 or P-521`);
  return [
    { key: parseSec1Point(info.key, "cca platform key"), implementationId: undefined, instanceId: undefined },
  ];
}

function isObject(json: Json): json is JsonObject {
  return json !== null && typeof json === "object" && !Array.isArray(json);
}

function readStore(list: readonly Json[]): readonly CcaPlatformKey[] {
  if (list.length > MAX_KEYS) throw fail(`${list.length} keys, at most ${MAX_KEYS}`);
  return list.map((entry, i) => {
    if (!isObject(entry)) throw fail(`entry ${i} is no object`);
    const id = (name: string, size: number): Uint8Array => {
      const value = entry[name];
      const read =
        typeof value === "string" && /^([0-9a-fA-F]{2})*$/.test(value) ? fromHex(value) : undefined;
      if (read?.byteLength !== size) throw fail(`entry ${i}: ${name} has no ${size} bytes of hex`);
      return read;
    };
    return {
      key: readJwk(entry["pkey"] ?? null),
      implementationId: id("implementation-id", 32),
      instanceId: id("instance-id", 33),
    };
  });
}

function readJwk(json: Json): EcKey {
  if (!isObject(json) || json["kty"] !== "EC") throw fail("is no JWK of an elliptic curve");
  const { crv, x, y } = json;
  if (crv !== "P-256" && crv !== "P-384" && crv !== "P-521") throw fail(`crv is ${JSON.stringify(crv)}`);
  if (json["d"] !== undefined) throw fail("is a private key, which nobody but the platform should have");
  if (typeof x !== "string" || typeof y !== "string") throw fail("x or y is missing");
  try {
    return ecKey(crv, fromBase64(x, "base64url"), fromBase64(y, "base64url"), "cca platform key");
  } catch (cause) {
    throw fail("x and y are no point", cause);
  }
}
