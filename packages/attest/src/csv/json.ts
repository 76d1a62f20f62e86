import type { Json, JsonObject } from "@shelter/base";
import { CA_CERTIFICATE_SIZE, CHIP_CERTIFICATE_SIZE } from "./certificate.ts";
import { CsvError } from "./error.ts";

// Trustee writes Hygon's structures as csv-rs declares them: nested objects, byte arrays as lists of numbers.
// Here they become the bytes again that were signed.

function refuse(what: string, why: string): never {
  throw new CsvError("CSV_EVIDENCE_MALFORMED", `csv evidence: ${what}: ${why}`);
}

/** A member that must be an object. */
export function objectAt(parent: JsonObject, key: string, what: string): JsonObject {
  const value = parent[key];
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    return refuse(`${what}.${key}`, value === undefined ? "missing" : "not an object");
  }
  return value as JsonObject;
}

/** A member that must be an unsigned number of so many bits. */
export function numberAt(parent: JsonObject, key: string, bits: 8 | 16 | 32, what: string): number {
  const value = parent[key];
  if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value >= 2 ** bits) {
    return refuse(`${what}.${key}`, value === undefined ? "missing" : `not a number of ${bits} bits`);
  }
  return value;
}

/** A member that must be a list of exactly so many bytes. */
export function bytesAt(parent: JsonObject, key: string, length: number, what: string): Uint8Array {
  const value = parent[key];
  if (!Array.isArray(value)) return refuse(`${what}.${key}`, value === undefined ? "missing" : "not a list");
  const list = value as readonly Json[];
  if (list.length !== length) return refuse(`${what}.${key}`, `${list.length} bytes, expected ${length}`);
  return Uint8Array.from(list, (b, i) => {
    if (typeof b !== "number" || !Number.isInteger(b) || b < 0 || b > 255) {
      return refuse(`${what}.${key}[${i}]`, "not a byte");
    }
    return b;
  });
}

/** Writes fields one after the other into a structure of fixed size. */
class StructWriter {
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  #offset = 0;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  u8(value: number): void {
    this.#view.setUint8(this.#offset, value);
    this.#offset += 1;
  }

  u16(value: number): void {
    this.#view.setUint16(this.#offset, value, true);
    this.#offset += 2;
  }

  u32(value: number): void {
    this.#view.setUint32(this.#offset, value, true);
    this.#offset += 4;
  }

  put(bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#offset);
    this.#offset += bytes.byteLength;
  }

  skip(count: number): void {
    this.#offset += count;
  }
}

function putKey(writer: StructWriter, key: JsonObject, what: string): void {
  writer.u32(numberAt(key, "g", 32, what));
  writer.put(bytesAt(key, "x", 72, what));
  writer.put(bytesAt(key, "y", 72, what));
}

function putSignature(writer: StructWriter, signature: JsonObject, what: string): void {
  writer.put(bytesAt(signature, "r", 72, what));
  writer.put(bytesAt(signature, "s", 72, what));
}

/** The bytes of a CA certificate (HSK) written as JSON. */
export function caCertificateBytes(json: JsonObject, what: string): Uint8Array {
  const writer = new StructWriter(CA_CERTIFICATE_SIZE);
  const body = objectAt(json, "body", what);
  const preamble = objectAt(body, "preamble", `${what}.body`);
  const data = objectAt(preamble, "data", `${what}.body.preamble`);
  writer.u32(numberAt(preamble, "ver", 32, what));
  writer.put(bytesAt(data, "kid", 16, what));
  writer.put(bytesAt(data, "sid", 16, what));
  writer.u32(numberAt(data, "usage", 32, what));
  writer.put(bytesAt(data, "reserved", 24, what));
  putKey(writer, objectAt(body, "pubkey", `${what}.body`), `${what}.body.pubkey`);
  writer.u16(numberAt(body, "uid_size", 16, what));
  writer.put(bytesAt(body, "user_id", 254, what));
  writer.put(bytesAt(body, "reserved", 108, what));
  putSignature(writer, objectAt(json, "signature", what), `${what}.signature`);
  return writer.bytes;
}

/** The bytes of a chip certificate (CEK, PEK) written as JSON. */
export function chipCertificateBytes(json: JsonObject, what: string): Uint8Array {
  const writer = new StructWriter(CHIP_CERTIFICATE_SIZE);
  const body = objectAt(json, "body", what);
  const data = objectAt(body, "data", `${what}.body`);
  const firmware = objectAt(data, "firmware", `${what}.body.data`);
  const pubkey = objectAt(data, "pubkey", `${what}.body.data`);
  writer.u32(numberAt(body, "ver", 32, what));
  writer.u8(numberAt(firmware, "major", 8, what));
  writer.u8(numberAt(firmware, "minor", 8, what));
  writer.u16(numberAt(data, "reserved1", 16, what));
  writer.u32(numberAt(pubkey, "usage", 32, what));
  writer.u32(numberAt(pubkey, "algo", 32, what));
  putKey(writer, objectAt(pubkey, "key", `${what}.body.data.pubkey`), `${what}.body.data.pubkey.key`);
  writer.u16(numberAt(data, "uid_size", 16, what));
  writer.put(bytesAt(data, "user_id", 254, what));
  writer.put(bytesAt(data, "sid", 16, what));
  writer.put(bytesAt(data, "reserved2", 608, what));
  const { sigs } = json;
  if (!Array.isArray(sigs) || sigs.length !== 2)
    return refuse(`${what}.sigs`, "not a list of two signatures");
  for (const [i, signature] of (sigs as readonly Json[]).entries()) {
    const at = `${what}.sigs[${i}]`;
    if (signature === null || typeof signature !== "object" || Array.isArray(signature)) {
      return refuse(at, "not an object");
    }
    const object = signature as JsonObject;
    writer.u32(numberAt(object, "usage", 32, at));
    writer.u32(numberAt(object, "algo", 32, at));
    putSignature(writer, objectAt(object, "signature", at), `${at}.signature`);
    writer.skip(368);
  }
  return writer.bytes;
}

/** The 336 bytes of a version 1 report in Trustee's older form, its fields one by one. */
export function teeInfoBytes(report: JsonObject, what: string): Uint8Array {
  const writer = new StructWriter(0x150);
  const body = objectAt(report, "body", what);
  for (const [key, length] of [
    ["user_pubkey_digest", 32],
    ["vm_id", 16],
    ["vm_version", 16],
    ["report_data", 64],
    ["mnonce", 16],
    ["measure", 32],
  ] as const) {
    writer.put(bytesAt(body, key, length, `${what}.body`));
  }
  writer.u32(numberAt(body, "policy", 32, `${what}.body`));
  for (const key of ["sig_usage", "sig_algo", "anonce"]) writer.u32(numberAt(report, key, 32, what));
  putSignature(writer, objectAt(report, "sig", what), `${what}.sig`);
  return writer.bytes;
}
