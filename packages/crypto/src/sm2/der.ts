import { ByteReader } from "@shelter/base";
import { CryptoError, type CryptoErrorCode } from "../error.ts";

// Only what SM2 puts on the wire: SEQUENCE, INTEGER, OCTET STRING. X.690 DER, no more.

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const OCTET_STRING = 0x04;
const MAX_INTEGER = 64; // an integer past this is refused unread; SM2's have 33 bytes at most

/** Reads the elements of one DER SEQUENCE in order and refuses every other encoding of them. */
export class DerSequence {
  readonly #reader: ByteReader;
  readonly #code: CryptoErrorCode;
  readonly #what: string;

  constructor(bytes: Uint8Array, what: string, code: CryptoErrorCode) {
    this.#code = code;
    this.#what = what;
    const outer = new ByteReader(bytes, what);
    this.#reader = new ByteReader(this.#element(outer, SEQUENCE), what);
    if (outer.remaining !== 0) this.#refuse(`${outer.remaining} bytes behind its end`);
  }

  #refuse(why: string): never {
    throw new CryptoError(this.#code, `${this.#what}: ${why}`);
  }

  #element(reader: ByteReader, tag: number): Uint8Array {
    if (reader.remaining < 2) this.#refuse(`ends at offset ${reader.offset}`);
    const found = reader.u8();
    if (found !== tag) this.#refuse(`expected tag 0x${tag.toString(16)}, have 0x${found.toString(16)}`);
    let length = reader.u8();
    if (length >= 0x80) {
      const octets = length & 0x7f;
      if (octets === 0 || octets > 3 || octets > reader.remaining) this.#refuse("a length that is not DER");
      length = 0;
      for (let i = 0; i < octets; i++) length = length * 256 + reader.u8();
      if (length < 0x80 || length < 256 ** (octets - 1)) this.#refuse("a length that is not minimal");
    }
    if (length > reader.remaining) this.#refuse(`needs ${length} bytes, has ${reader.remaining}`);
    return reader.take(length);
  }

  /** A non-negative INTEGER, minimally encoded; whether it is in its range is for the reader to say. */
  integer(): bigint {
    const bytes = this.#element(this.#reader, INTEGER);
    const [first, second] = bytes;
    if (first === undefined) this.#refuse("an empty integer");
    if (first >= 0x80) this.#refuse("a negative integer");
    if (first === 0 && second !== undefined && second < 0x80) this.#refuse("an integer that is not minimal");
    if (bytes.byteLength > MAX_INTEGER) this.#refuse(`an integer of ${bytes.byteLength} bytes`);
    return BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
  }

  octets(): Uint8Array {
    return this.#element(this.#reader, OCTET_STRING);
  }

  end(): void {
    if (this.#reader.remaining !== 0) this.#refuse(`${this.#reader.remaining} bytes too many`);
  }
}

function element(tag: number, content: Uint8Array): Uint8Array {
  const { byteLength } = content;
  const length =
    byteLength < 0x80
      ? [byteLength]
      : byteLength < 0x100
        ? [0x81, byteLength]
        : byteLength < 0x10000
          ? [0x82, byteLength >> 8, byteLength & 255]
          : [0x83, byteLength >> 16, (byteLength >> 8) & 255, byteLength & 255];
  return Buffer.concat([Uint8Array.of(tag, ...length), content]);
}

/** DER INTEGER of a non-negative number. */
export function derInteger(value: bigint): Uint8Array {
  let hex = value.toString(16);
  if (hex.length % 2 === 1) hex = `0${hex}`;
  if (Number.parseInt(hex.slice(0, 2), 16) >= 0x80) hex = `00${hex}`;
  return element(INTEGER, Buffer.from(hex, "hex"));
}

/** DER OCTET STRING. */
export function derOctets(bytes: Uint8Array): Uint8Array {
  return element(OCTET_STRING, bytes);
}

/** DER SEQUENCE of elements already encoded. */
export function derSequence(...elements: readonly Uint8Array[]): Uint8Array {
  return element(SEQUENCE, Buffer.concat(elements));
}

/** Any other DER element. */
export function derElement(tag: number, content: Uint8Array): Uint8Array {
  return element(tag, content);
}
