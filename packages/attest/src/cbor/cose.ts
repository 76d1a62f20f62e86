import { createPublicKey, type KeyObject, verify } from "node:crypto";
import { toBase64 } from "@shelter/base";
import { type CborMap, CborTag, type CborValue, decodeCbor, isMap, showCbor } from "./decode.ts";
import { cborArray, cborBytes, cborText } from "./encode.ts";
import { CborError } from "./error.ts";
import { CborFields } from "./fields.ts";

/** A signature algorithm of COSE, with the one curve each is used with (RFC 9053 section 2.1). */
export interface CoseAlgorithm {
  readonly id: number;
  readonly name: "ES256" | "ES384" | "ES512";
  readonly hash: "sha256" | "sha384" | "sha512";
  readonly curve: "P-256" | "P-384" | "P-521";
  readonly signatureSize: number;
}

/** The algorithms evidence is signed with. */
export const COSE_ALGORITHMS: readonly CoseAlgorithm[] = [
  { id: -7, name: "ES256", hash: "sha256", curve: "P-256", signatureSize: 64 },
  { id: -35, name: "ES384", hash: "sha384", curve: "P-384", signatureSize: 96 },
  { id: -36, name: "ES512", hash: "sha512", curve: "P-521", signatureSize: 132 },
];

/** A COSE_Sign1 message (RFC 9052 section 4.2), parsed once; nothing in it is believed yet. */
export interface CoseSign1 {
  /** The protected header as it stands, which is what is signed. */
  readonly protectedBytes: Uint8Array;
  readonly protectedHeader: CborMap;
  readonly unprotectedHeader: CborMap;
  readonly payload: Uint8Array;
  readonly signature: Uint8Array;
  /** Value of the `alg` parameter. */
  readonly alg: number;
  /** The algorithm, when it is one of ours. */
  readonly algorithm: CoseAlgorithm | undefined;
}

const TAG_SIGN1 = 18;
const HEADER_ALG = 1;
const HEADER_CRIT = 2;

function refuse(what: string, why: string): never {
  throw new CborError("COSE_MALFORMED", `${what}: ${why}`);
}

/** Parses a COSE_Sign1 with its payload inside; the tag 18 may stand before it. */
export function parseCoseSign1(bytes: Uint8Array, what: string): CoseSign1 {
  const item = decodeCbor(bytes, what);
  const message = item instanceof CborTag && item.tag === TAG_SIGN1 ? item.value : item;
  if (!Array.isArray(message) || message.length !== 4) {
    return refuse(what, `is ${showCbor(message)}, expected COSE_Sign1, an array of four`);
  }
  const [protectedBytes, unprotectedHeader, payload, signature] = message as readonly CborValue[];
  if (!(protectedBytes instanceof Uint8Array)) return refuse(what, "the protected header is no byte string");
  if (unprotectedHeader === undefined || !isMap(unprotectedHeader)) {
    return refuse(what, "the unprotected header is no map");
  }
  if (!(payload instanceof Uint8Array)) return refuse(what, "the payload is not inside");
  if (!(signature instanceof Uint8Array)) return refuse(what, "the signature is no byte string");
  const protectedHeader = decodeCbor(protectedBytes, `${what}: protected header`);
  if (!isMap(protectedHeader)) return refuse(what, "the protected header is no map");
  for (const key of protectedHeader.keys()) {
    // RFC 9052 section 3: a label must not be in both.
    if (unprotectedHeader.has(key)) refuse(what, `header ${key} is both protected and unprotected`);
  }
  if (protectedHeader.has(HEADER_CRIT)) refuse(what, "critical headers are not understood");
  const alg = protectedHeader.get(HEADER_ALG);
  if (typeof alg !== "number") return refuse(what, "no algorithm in the protected header");
  return {
    protectedBytes,
    protectedHeader,
    unprotectedHeader,
    payload,
    signature,
    alg,
    algorithm: COSE_ALGORITHMS.find((a) => a.id === alg),
  };
}

/** The bytes that a COSE_Sign1 signs: Sig_structure of RFC 9052 section 4.4, without external data. */
export function coseSigStructure(message: CoseSign1): Uint8Array {
  return cborArray(
    cborText("Signature1"),
    cborBytes(message.protectedBytes),
    cborBytes(new Uint8Array()),
    cborBytes(message.payload),
  );
}

/** A public key on one of the NIST curves. */
export interface EcKey {
  readonly curve: CoseAlgorithm["curve"];
  readonly key: KeyObject;
}

/** Whether the signature holds: algorithm known, key on its curve, length exact, and R and S in range (OpenSSL refuses others). */
export function verifyCoseSign1(message: CoseSign1, key: EcKey): boolean {
  const { algorithm, signature } = message;
  if (algorithm === undefined || key.curve !== algorithm.curve) return false;
  if (signature.byteLength !== algorithm.signatureSize) return false;
  return verify(
    algorithm.hash,
    coseSigStructure(message),
    { key: key.key, dsaEncoding: "ieee-p1363" },
    signature,
  );
}

const SIZES: Readonly<Record<EcKey["curve"], number>> = { "P-256": 32, "P-384": 48, "P-521": 66 };

/** A key of two coordinates; a point off the curve is refused. */
export function ecKey(curve: EcKey["curve"], x: Uint8Array, y: Uint8Array, what: string): EcKey {
  const size = SIZES[curve];
  if (x.byteLength !== size || y.byteLength !== size) {
    return refuse(what, `coordinates of ${x.byteLength} and ${y.byteLength} bytes, ${curve} has ${size}`);
  }
  try {
    const jwk = { kty: "EC", crv: curve, x: toBase64(x, "base64url"), y: toBase64(y, "base64url") };
    return { curve, key: createPublicKey({ key: jwk, format: "jwk" }) };
  } catch (cause) {
    throw new CborError("COSE_MALFORMED", `${what}: not a point of ${curve}`, { cause });
  }
}

const CURVES: ReadonlyMap<number, EcKey["curve"]> = new Map([
  [1, "P-256"],
  [2, "P-384"],
  [3, "P-521"],
]);

/** Reads a COSE_Key (RFC 9053 section 7.1.1): EC2 with both coordinates. */
export function parseCoseKey(bytes: Uint8Array, what: string): EcKey {
  const map = decodeCbor(bytes, what);
  if (!isMap(map)) return refuse(what, "is no map");
  const fields = new CborFields(map, (why) => new CborError("COSE_MALFORMED", `${what}: ${why}`));
  if (map.get(1) !== 2) return refuse(what, `kty is ${showCbor(map.get(1))}, expected 2 (EC2)`);
  const curve = CURVES.get(fields.integer(-1, "crv", 3));
  if (curve === undefined) return refuse(what, `crv is ${showCbor(map.get(-1))}`);
  const algorithm = map.get(3);
  if (algorithm !== undefined && COSE_ALGORITHMS.find((a) => a.id === algorithm)?.curve !== curve) {
    return refuse(what, `alg ${showCbor(algorithm)} does not go with ${curve}`);
  }
  return ecKey(curve, fields.bytes(-2, "x"), fields.bytes(-3, "y"), what);
}

/** Reads an uncompressed SEC 1 point; its length says which curve it is of. */
export function parseSec1Point(bytes: Uint8Array, what: string): EcKey {
  const entry = Object.entries(SIZES).find(([, size]) => bytes.byteLength === 1 + 2 * size);
  if (entry === undefined || bytes[0] !== 4) {
    return refuse(what, `${bytes.byteLength} bytes are no uncompressed point of P-256, P-384 or P-521`);
  }
  const [curve, size] = entry as [EcKey["curve"], number];
  return ecKey(curve, bytes.subarray(1, 1 + size), bytes.subarray(1 + size), what);
}
