import { createPublicKey, type KeyObject } from "node:crypto";
import { ByteReader, toBase64 } from "@shelter/base";
import { ALG, digest, hashById, type TpmHash } from "./algorithm.ts";
import { TpmError } from "./error.ts";

/** Bits of TPMA_OBJECT (TPM 2.0 part 2, section 8.3), named as there. */
export const OBJECT_ATTRIBUTES = {
  fixedTPM: 1 << 1,
  stClear: 1 << 2,
  fixedParent: 1 << 4,
  sensitiveDataOrigin: 1 << 5,
  userWithAuth: 1 << 6,
  adminWithPolicy: 1 << 7,
  noDA: 1 << 10,
  encryptedDuplication: 1 << 11,
  restricted: 1 << 16,
  decrypt: 1 << 17,
  sign: 1 << 18,
  x509sign: 1 << 19,
} as const;

/** Name of an object attribute. */
export type ObjectAttribute = keyof typeof OBJECT_ATTRIBUTES;

/** A symmetric definition; undefined where the key has none. */
export interface SymmetricDefinition {
  readonly algorithm: number;
  readonly keyBits: number;
  readonly mode: number;
}

/** The public area of an RSA or ECC key (TPMT_PUBLIC, TPM 2.0 part 2, section 12.2.4). */
export interface TpmPublic {
  /** The TPMT_PUBLIC itself. */
  readonly raw: Uint8Array;
  readonly nameAlg: TpmHash;
  readonly attributes: ReadonlySet<ObjectAttribute>;
  readonly attributeBits: number;
  readonly authPolicy: Uint8Array;
  readonly symmetric: SymmetricDefinition | undefined;
  /** TPM_ALG_ID of the scheme and its hash; undefined for TPM_ALG_NULL. */
  readonly scheme: { readonly algorithm: number; readonly hash: TpmHash | undefined } | undefined;
  readonly key:
    | { readonly kind: "rsa"; readonly bits: number; readonly exponent: number; readonly modulus: Uint8Array }
    | {
        readonly kind: "ecc";
        readonly curve: "P-256" | "P-384" | "P-521";
        readonly x: Uint8Array;
        readonly y: Uint8Array;
      };
  /** TPM2B_NAME content: the hash's identifier and the digest of `raw`. */
  readonly name: Uint8Array;
}

const CURVES: Readonly<Record<number, { name: "P-256" | "P-384" | "P-521"; size: number }>> = {
  3: { name: "P-256", size: 32 },
  4: { name: "P-384", size: 48 },
  5: { name: "P-521", size: 66 },
};

const MAX_RSA_BYTES = 1024;

/** Parses a TPM2B_PUBLIC. */
export function parseTpm2bPublic(bytes: Uint8Array): TpmPublic {
  const reader = new ByteReader(bytes, "TPM2B_PUBLIC");
  const area = reader.take(reader.u16be());
  reader.end();
  return parseTpmPublic(area);
}

/** Parses a TPMT_PUBLIC. */
export function parseTpmPublic(bytes: Uint8Array): TpmPublic {
  const reader = new ByteReader(bytes, "TPMT_PUBLIC");
  const type = reader.u16be();
  const nameAlg = readHash(reader);
  const attributeBits = reader.u32be();
  const authPolicy = reader.take(reader.u16be());
  if (type !== ALG.rsa && type !== ALG.ecc) {
    throw new TpmError("TPM_UNSUPPORTED", `TPMT_PUBLIC: type 0x${type.toString(16)} is neither RSA nor ECC`);
  }
  const symmetric = readSymmetric(reader);
  const scheme = readScheme(reader);
  const key = type === ALG.rsa ? readRsa(reader) : readEcc(reader);
  reader.end();
  const names = Object.entries(OBJECT_ATTRIBUTES) as [ObjectAttribute, number][];
  const idAndDigest = new Uint8Array([bytes[2] ?? 0, bytes[3] ?? 0, ...digest(nameAlg, bytes)]);
  return {
    raw: bytes,
    nameAlg,
    attributes: new Set(names.filter(([, bit]) => (attributeBits & bit) !== 0).map(([name]) => name)),
    attributeBits,
    authPolicy,
    symmetric,
    scheme,
    key,
    name: idAndDigest,
  };
}

function readHash(reader: ByteReader): TpmHash {
  const id = reader.u16be();
  const hash = hashById(id);
  if (hash === undefined)
    throw new TpmError("TPM_UNSUPPORTED", `${reader.what}: hash algorithm 0x${id.toString(16)}`);
  return hash;
}

function readSymmetric(reader: ByteReader): SymmetricDefinition | undefined {
  const algorithm = reader.u16be();
  if (algorithm === ALG.null) return undefined;
  return { algorithm, keyBits: reader.u16be(), mode: reader.u16be() };
}

function readScheme(reader: ByteReader): TpmPublic["scheme"] {
  const algorithm = reader.u16be();
  if (algorithm === ALG.null) return undefined;
  if (algorithm === ALG.rsaes) return { algorithm, hash: undefined };
  const hash = readHash(reader);
  if (algorithm === ALG.ecdaa) reader.u16be(); // count
  return { algorithm, hash };
}

function readRsa(reader: ByteReader): TpmPublic["key"] {
  const bits = reader.u16be();
  const exponent = reader.u32be() || 65537; // 0 stands for the default (part 2, section 12.2.3.5)
  const size = reader.u16be();
  if (size > MAX_RSA_BYTES || size * 8 !== bits) {
    throw new TpmError("TPM_MALFORMED", `TPMT_PUBLIC: modulus of ${size} bytes for a key of ${bits} bits`);
  }
  return { kind: "rsa", bits, exponent, modulus: reader.take(size) };
}

function readEcc(reader: ByteReader): TpmPublic["key"] {
  const id = reader.u16be();
  const curve = CURVES[id];
  if (curve === undefined) throw new TpmError("TPM_UNSUPPORTED", `TPMT_PUBLIC: curve 0x${id.toString(16)}`);
  const kdf = reader.u16be();
  if (kdf !== ALG.null) reader.u16be();
  const x = padded(reader.take(reader.u16be()), curve.size);
  const y = padded(reader.take(reader.u16be()), curve.size);
  return { kind: "ecc", curve: curve.name, x, y };
}

/** A big-endian number on exactly `size` bytes. */
export function padded(number: Uint8Array, size: number): Uint8Array {
  if (number.length > size)
    throw new TpmError("TPM_MALFORMED", `a number of ${number.length} bytes, at most ${size}`);
  if (number.length === size) return number;
  const out = new Uint8Array(size);
  out.set(number, size - number.length);
  return out;
}

/** The key of a public area as node:crypto has it. A point off its curve is refused. */
export function publicKeyOf(area: TpmPublic): KeyObject {
  const { key } = area;
  try {
    if (key.kind === "ecc") {
      const jwk = {
        kty: "EC",
        crv: key.curve,
        x: toBase64(key.x, "base64url"),
        y: toBase64(key.y, "base64url"),
      };
      return createPublicKey({ key: jwk, format: "jwk" });
    }
    const e = Buffer.alloc(4);
    e.writeUInt32BE(key.exponent);
    const lead = e.findIndex((b) => b !== 0);
    const jwk = {
      kty: "RSA",
      n: toBase64(key.modulus, "base64url"),
      e: e.subarray(lead).toString("base64url"),
    };
    return createPublicKey({ key: jwk, format: "jwk" });
  } catch (cause) {
    throw new TpmError("TPM_MALFORMED", "TPMT_PUBLIC: not a usable public key", { cause });
  }
}
