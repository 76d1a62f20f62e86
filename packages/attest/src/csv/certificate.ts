import { ByteReader } from "@shelter/base";
import { CsvError } from "./error.ts";

/** Bytes of a certificate of Hygon's authority (HRK, HSK): `hygon_root_cert_t`. */
export const CA_CERTIFICATE_SIZE = 832;
/** Bytes of a certificate of a chip (CEK, PEK): `csv_cert_t`. */
export const CHIP_CERTIFICATE_SIZE = 2084;

/** What a key is for (`key_usage_t`). */
export const USAGE = {
  HRK: 0x0,
  HSK: 0x13,
  none: 0x1000,
  OCA: 0x1001,
  PEK: 0x1002,
  PDH: 0x1003,
  CEK: 0x1004,
} as const;

/** SM2 as a signature algorithm, in certificates and reports. */
export const SM2_SIGNATURE = 4;
const SM2_CURVE = 3;
const FIELD_SIZE = 72; // coordinates and signature parts: little-endian, room for 576 bits
const USER_ID_SIZE = 254;

/** One signature of a certificate. A CA certificate has one, a chip certificate two places for one. */
export interface CsvSignature {
  /** Usage and algorithm of the signing key; a CA certificate does not say them. */
  readonly usage: number | undefined;
  readonly algorithm: number | undefined;
  /** R and S, 32 bytes each, most significant first; undefined where a part exceeds 256 bits. */
  readonly value: Uint8Array | undefined;
}

/** A Hygon certificate, parsed once; nothing in it is believed yet. */
export interface CsvCertificate {
  readonly kind: "ca" | "chip";
  readonly raw: Uint8Array;
  /** The signed part. */
  readonly signed: Uint8Array;
  readonly version: number;
  /** Identifier of the key; chip certificates have none. */
  readonly keyId: Uint8Array | undefined;
  /** Identifier of the key that signed; zeros where it is not said. */
  readonly signerId: Uint8Array;
  readonly usage: number;
  readonly algorithm: number | undefined;
  /** Firmware API of the chip that made the key. */
  readonly api: { readonly major: number; readonly minor: number } | undefined;
  /** `04 || x || y`; whether it is on the curve is found out when it is used. */
  readonly publicKey: Uint8Array;
  /** The identity this key signs under. */
  readonly userId: Uint8Array;
  readonly signatures: readonly CsvSignature[];
}

function refuse(what: string, why: string): never {
  throw new CsvError("CSV_CERTIFICATE_MALFORMED", `${what}: ${why}`);
}

function reversed(bytes: Uint8Array): Uint8Array {
  return Uint8Array.from(bytes).reverse();
}

/** A little-endian number of 72 bytes as 32 big-endian ones, undefined if it does not fit. */
function narrow(bytes: Uint8Array): Uint8Array | undefined {
  return bytes.subarray(32).some((b) => b !== 0) ? undefined : reversed(bytes.subarray(0, 32));
}

/** Reads R and S as they stand in reports and certificates. */
export function readSignature(reader: ByteReader): Uint8Array | undefined {
  const r = narrow(reader.take(FIELD_SIZE));
  const s = narrow(reader.take(FIELD_SIZE));
  return r === undefined || s === undefined ? undefined : Buffer.concat([r, s]);
}

function readPublicKey(reader: ByteReader, what: string): Uint8Array {
  const curve = reader.u32le();
  if (curve !== SM2_CURVE) refuse(what, `curve ${curve}, expected ${SM2_CURVE} (sm2p256v1)`);
  const x = narrow(reader.take(FIELD_SIZE));
  const y = narrow(reader.take(FIELD_SIZE));
  if (x === undefined || y === undefined) refuse(what, "a coordinate of the public key exceeds 256 bits");
  return Buffer.concat([Uint8Array.of(4), x, y]);
}

function readUserId(reader: ByteReader, what: string): Uint8Array {
  const size = reader.u16le();
  if (size > USER_ID_SIZE) refuse(what, `user id of ${size} bytes, at most ${USER_ID_SIZE}`);
  return reader.take(USER_ID_SIZE).subarray(0, size);
}

/** Parses an HRK or HSK certificate, exactly 832 bytes. */
export function parseCaCertificate(bytes: Uint8Array, what: string): CsvCertificate {
  if (bytes.byteLength !== CA_CERTIFICATE_SIZE) {
    refuse(what, `${bytes.byteLength} bytes, expected ${CA_CERTIFICATE_SIZE}`);
  }
  const reader = new ByteReader(bytes, what);
  const version = reader.u32le();
  const keyId = reader.take(16);
  const signerId = reader.take(16);
  const usage = reader.u32le();
  reader.skip(24);
  const publicKey = readPublicKey(reader, what);
  const userId = readUserId(reader, what);
  reader.skip(108);
  const signed = bytes.subarray(0, reader.offset);
  const value = readSignature(reader);
  reader.skip(112);
  reader.end();
  return {
    kind: "ca",
    raw: bytes,
    signed,
    version,
    keyId,
    signerId,
    usage,
    algorithm: undefined,
    api: undefined,
    publicKey,
    userId,
    signatures: [{ usage: undefined, algorithm: undefined, value }],
  };
}

/** Parses a CEK or PEK certificate, exactly 2084 bytes. */
export function parseChipCertificate(bytes: Uint8Array, what: string): CsvCertificate {
  if (bytes.byteLength !== CHIP_CERTIFICATE_SIZE) {
    refuse(what, `${bytes.byteLength} bytes, expected ${CHIP_CERTIFICATE_SIZE}`);
  }
  const reader = new ByteReader(bytes, what);
  const version = reader.u32le();
  const api = { major: reader.u8(), minor: reader.u8() };
  reader.skip(2);
  const usage = reader.u32le();
  const algorithm = reader.u32le();
  const publicKey = readPublicKey(reader, what);
  const userId = readUserId(reader, what);
  const signerId = reader.take(16);
  reader.skip(608);
  const signed = bytes.subarray(0, reader.offset);
  const signatures = [readChipSignature(reader), readChipSignature(reader)];
  reader.end();
  return {
    kind: "chip",
    raw: bytes,
    signed,
    version,
    keyId: undefined,
    signerId,
    usage,
    algorithm,
    api,
    publicKey,
    userId,
    signatures,
  };
}

function readChipSignature(reader: ByteReader): CsvSignature {
  const usage = reader.u32le();
  const algorithm = reader.u32le();
  const value = readSignature(reader);
  reader.skip(368);
  return { usage, algorithm, value };
}

/** Parses what Hygon's key server gives for a chip: its HSK and CEK, one after the other. */
export function parseHskCek(bytes: Uint8Array): { hsk: CsvCertificate; cek: CsvCertificate } {
  const size = CA_CERTIFICATE_SIZE + CHIP_CERTIFICATE_SIZE;
  if (bytes.byteLength !== size) refuse("hsk and cek", `${bytes.byteLength} bytes, expected ${size}`);
  return {
    hsk: parseCaCertificate(bytes.subarray(0, CA_CERTIFICATE_SIZE), "hsk"),
    cek: parseChipCertificate(bytes.subarray(CA_CERTIFICATE_SIZE), "cek"),
  };
}

/** The name of a key usage. */
export function usageName(usage: number | undefined): string {
  const [name] = Object.entries(USAGE).find(([, value]) => value === usage) ?? [];
  return name ?? (usage === undefined ? "not said" : `0x${usage.toString(16)}`);
}
