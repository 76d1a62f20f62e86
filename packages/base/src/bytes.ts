import { ShelterError } from "./errors.ts";

/** Code of the error a reader throws at the end of its data. */
export type BytesErrorCode = "BYTES_TRUNCATED" | "BYTES_TRAILING" | "BYTES_RANGE";

/** Data shorter, longer or out of the range its form demands. */
export class BytesError extends ShelterError<BytesErrorCode> {
  constructor(code: BytesErrorCode, message: string) {
    super(code, "malformed", message);
  }
}

/**
 * Reads a byte array from front to back and refuses to pass its end. Never copies: what it returns
 * are views into the array it was given.
 */
export class ByteReader {
  readonly bytes: Uint8Array;
  readonly what: string;
  readonly #view: DataView;
  #offset = 0;

  /** `what` names the structure in error messages. */
  constructor(bytes: Uint8Array, what: string) {
    this.bytes = bytes;
    this.what = what;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  get offset(): number {
    return this.#offset;
  }

  get remaining(): number {
    return this.bytes.byteLength - this.#offset;
  }

  #need(count: number): number {
    if (!Number.isSafeInteger(count) || count < 0) {
      throw new BytesError(
        "BYTES_RANGE",
        `${this.what}: length ${count} at offset ${this.#offset} is out of range`,
      );
    }
    if (count > this.remaining) {
      throw new BytesError(
        "BYTES_TRUNCATED",
        `${this.what}: need ${count} bytes at offset ${this.#offset}, have ${this.remaining}`,
      );
    }
    const at = this.#offset;
    this.#offset += count;
    return at;
  }

  take(count: number): Uint8Array {
    const at = this.#need(count);
    return this.bytes.subarray(at, at + count);
  }

  skip(count: number): void {
    this.#need(count);
  }

  u8(): number {
    return this.#view.getUint8(this.#need(1));
  }

  u16le(): number {
    return this.#view.getUint16(this.#need(2), true);
  }

  u16be(): number {
    return this.#view.getUint16(this.#need(2), false);
  }

  u32le(): number {
    return this.#view.getUint32(this.#need(4), true);
  }

  u32be(): number {
    return this.#view.getUint32(this.#need(4), false);
  }

  u64le(): bigint {
    return this.#view.getBigUint64(this.#need(8), true);
  }

  u64be(): bigint {
    return this.#view.getBigUint64(this.#need(8), false);
  }

  /** A part of the data as a reader of its own. */
  sub(count: number, what: string): ByteReader {
    return new ByteReader(this.take(count), what);
  }

  /** Refuses anything left over. */
  end(): void {
    if (this.remaining !== 0) {
      throw new BytesError("BYTES_TRAILING", `${this.what}: ${this.remaining} bytes behind its end`);
    }
  }
}

/** Bytes of an even number of hex digits, either case. */
export function fromHex(text: string): Uint8Array {
  if (text.length % 2 !== 0 || !/^[0-9a-fA-F]*$/.test(text)) {
    throw new BytesError("BYTES_RANGE", "expected an even number of hex digits");
  }
  return new Uint8Array(Buffer.from(text, "hex"));
}

/** Lower-case hex digits. */
export function toHex(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex");
}

/** Whether two public byte arrays are the same. Not for secrets: use `timingSafeEqual`. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.byteLength === b.byteLength && Buffer.compare(a, b) === 0;
}

/**
 * Bytes of standard or URL-safe base64 in its one canonical form: padding right or absent, no white
 * space, no stray bits.
 */
export function fromBase64(text: string, form: "base64" | "base64url" = "base64"): Uint8Array {
  const bytes = Buffer.from(text, form);
  const again = bytes.toString(form);
  if (again !== text && again.replace(/=+$/, "") !== text) {
    throw new BytesError("BYTES_RANGE", `expected ${form}`);
  }
  return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** Base64 of bytes: standard with padding, or URL-safe without. */
export function toBase64(bytes: Uint8Array, form: "base64" | "base64url" = "base64"): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString(form);
}
