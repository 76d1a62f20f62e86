import { X509Error } from "./error.ts";

/** Universal tags this reader knows by name (X.690 section 8, X.680 table 1). */
export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8String: 0x0c,
  printableString: 0x13,
  t61String: 0x14,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  universalString: 0x1c,
  bmpString: 0x1e,
  sequence: 0x30,
  set: 0x31,
} as const;

const MAX_DEPTH = 24; // a certificate needs about 10

/** Context tag `[n]`, constructed or primitive. */
export function contextTag(n: number, constructed = true): number {
  return 0x80 | (constructed ? 0x20 : 0) | n;
}

function bad(what: string, offset: number, message: string): X509Error {
  return new X509Error("DER_MALFORMED", `${what}: ${message} at offset ${offset}`);
}

/** One element: its tag, its bytes with header (`raw`) and without (`content`). */
export interface DerValue {
  readonly tag: number;
  readonly raw: Uint8Array;
  readonly content: Uint8Array;
}

/**
 * Reads DER (X.690 section 10) front to back: one-byte tags, definite lengths in their shortest form,
 * nothing behind the end. Nesting is bounded by `MAX_DEPTH`.
 */
export class DerReader {
  readonly bytes: Uint8Array;
  readonly what: string;
  #offset = 0;
  readonly #depth: number;

  constructor(bytes: Uint8Array, what: string, depth = 0) {
    if (depth > MAX_DEPTH) throw bad(what, 0, `nested deeper than ${MAX_DEPTH}`);
    this.bytes = bytes;
    this.what = what;
    this.#depth = depth;
  }

  get offset(): number {
    return this.#offset;
  }

  get more(): boolean {
    return this.#offset < this.bytes.byteLength;
  }

  /** Tag of the next element, or -1 at the end. */
  peek(): number {
    return this.bytes[this.#offset] ?? -1;
  }

  /** The next element, which must have `tag` when one is given. */
  next(tag?: number): DerValue {
    const start = this.#offset;
    const { bytes } = this;
    const have = bytes[start];
    if (have === undefined) throw bad(this.what, start, "ends where an element is due");
    if (tag !== undefined && have !== tag) {
      throw bad(this.what, start, `expected tag 0x${tag.toString(16)}, have 0x${have.toString(16)}`);
    }
    if ((have & 0x1f) === 0x1f) throw bad(this.what, start, "tag of several bytes");
    let at = start + 1;
    let length = bytes[at++];
    if (length === undefined) throw bad(this.what, start, "ends inside a length");
    if (length >= 0x80) {
      const count = length & 0x7f;
      if (count === 0) throw bad(this.what, start, "indefinite length");
      if (count > 4) throw bad(this.what, start, `length of ${count} bytes`);
      length = 0;
      for (let i = 0; i < count; i++) {
        const b = bytes[at++];
        if (b === undefined) throw bad(this.what, start, "ends inside a length");
        if (i === 0 && b === 0) throw bad(this.what, start, "length not in its shortest form");
        length = length * 256 + b;
      }
      if (length < 0x80) throw bad(this.what, start, "length not in its shortest form");
    }
    const end = at + length;
    if (end > bytes.byteLength) {
      throw bad(this.what, start, `need ${length} bytes, have ${bytes.byteLength - at}`);
    }
    this.#offset = end;
    return { tag: have, raw: bytes.subarray(start, end), content: bytes.subarray(at, end) };
  }

  /** The next element when it has this tag. */
  optional(tag: number): DerValue | undefined {
    return this.peek() === tag ? this.next(tag) : undefined;
  }

  /** A reader over the content of the next element. */
  enter(tag: number): DerReader {
    return this.inside(this.next(tag));
  }

  /** A reader over the content of an element this reader gave. */
  inside(value: DerValue): DerReader {
    return new DerReader(value.content, this.what, this.#depth + 1);
  }

  /** Refuses anything left over. */
  end(): void {
    if (this.more) {
      throw bad(this.what, this.#offset, `${this.bytes.byteLength - this.#offset} bytes too many`);
    }
  }

  boolean(): boolean {
    const { content } = this.next(TAG.boolean);
    if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) {
      throw bad(this.what, this.#offset, "boolean is neither 00 nor ff");
    }
    return content[0] === 0xff;
  }

  /** Content of an INTEGER: two's complement, in its shortest form. */
  integer(): Uint8Array {
    const { content } = this.next(TAG.integer);
    checkInteger(content, this.what, this.#offset);
    return content;
  }

  /** An INTEGER from 0 to 2^31 - 1. */
  smallInteger(): number {
    const content = this.integer();
    if (content.length > 4 || content[0]! >= 0x80) throw bad(this.what, this.#offset, "integer out of range");
    return content.reduce((n, b) => n * 256 + b, 0);
  }

  /** A BIT STRING of whole bytes. */
  bitStringBytes(): Uint8Array {
    const { content } = this.next(TAG.bitString);
    if (content[0] !== 0) throw bad(this.what, this.#offset, "bit string is not whole bytes");
    return content.subarray(1);
  }

  oid(): string {
    return decodeOid(this.next(TAG.oid).content, this.what);
  }

  /** A UTCTime or GeneralizedTime of the one form RFC 5280 section 4.1.2.5 allows, in milliseconds. */
  time(): number {
    const value = this.next();
    if (value.tag !== TAG.utcTime && value.tag !== TAG.generalizedTime) {
      throw bad(this.what, this.#offset, "expected a time");
    }
    return decodeTime(value, this.what, this.#offset);
  }
}

function checkInteger(content: Uint8Array, what: string, offset: number): void {
  const [first, second] = content;
  if (first === undefined) throw bad(what, offset, "empty integer");
  if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) {
    throw bad(what, offset, "integer not in its shortest form");
  }
}

function decodeTime(value: DerValue, what: string, offset: number): number {
  const text = Buffer.from(value.content).toString("latin1");
  const match =
    value.tag === TAG.utcTime
      ? /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text)
      : /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(text);
  if (!match) throw bad(what, offset, "time of another form");
  const [year, month, day, hour, minute, second] = match.slice(1).map(Number) as [
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const full = value.tag === TAG.utcTime ? (year < 50 ? 2000 + year : 1900 + year) : year;
  const date = new Date(0);
  date.setUTCFullYear(full, month - 1, day);
  date.setUTCHours(hour, minute, second);
  if (
    date.getUTCMonth() !== month - 1 ||
    date.getUTCDate() !== day ||
    date.getUTCHours() !== hour ||
    date.getUTCMinutes() !== minute ||
    date.getUTCSeconds() !== second
  ) {
    throw bad(what, offset, "a time that is not on the calendar");
  }
  return date.getTime();
}

const oidCache = new Map<string, string>();

/** Dotted form of the content of an OBJECT IDENTIFIER. */
export function decodeOid(content: Uint8Array, what: string): string {
  const key = Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString("latin1");
  const known = oidCache.get(key);
  if (known !== undefined) return known;
  if (content.length === 0 || content.length > 64)
    throw bad(what, 0, "object identifier of no or too many bytes");
  const arcs: bigint[] = [];
  let arc = 0n;
  let fresh = true;
  for (const b of content) {
    if (fresh && b === 0x80) throw bad(what, 0, "object identifier not in its shortest form");
    arc = (arc << 7n) | BigInt(b & 0x7f);
    fresh = b < 0x80;
    if (fresh) {
      arcs.push(arc);
      arc = 0n;
    }
  }
  if (!fresh) throw bad(what, 0, "object identifier ends inside an arc");
  const head = arcs[0] ?? 0n;
  const top = head < 40n ? 0n : head < 80n ? 1n : 2n;
  const text = [top, head - top * 40n, ...arcs.slice(1)].join(".");
  // Hostile data must not grow this without bound; what is worth remembering fits easily.
  if (oidCache.size < 512) oidCache.set(key, text);
  return text;
}

/**
 * Walks a whole DER tree and refuses whatever is not canonical, also in parts nobody reads: long
 * lengths, long integers, booleans other than 00 and ff, bits set behind the end of a bit string.
 */
export function checkDer(bytes: Uint8Array, what: string): void {
  const reader = new DerReader(bytes, what);
  walk(reader, what);
}

function walk(reader: DerReader, what: string): void {
  while (reader.more) {
    const value = reader.next();
    const { tag, content } = value;
    if ((tag & 0x20) !== 0) {
      if (tag < 0x40 && tag !== TAG.sequence && tag !== TAG.set) {
        throw bad(what, reader.offset, `constructed form of tag 0x${tag.toString(16)}`);
      }
      walk(reader.inside(value), what);
      continue;
    }
    switch (tag) {
      case TAG.boolean:
        if (content.length !== 1 || (content[0] !== 0 && content[0] !== 0xff)) {
          throw bad(what, reader.offset, "boolean is neither 00 nor ff");
        }
        break;
      case TAG.integer:
      case TAG.enumerated:
        checkInteger(content, what, reader.offset);
        break;
      case TAG.null:
        if (content.length !== 0) throw bad(what, reader.offset, "null with content");
        break;
      case TAG.bitString: {
        const unused = content[0];
        if (unused === undefined || unused > 7 || (unused > 0 && content.length === 1)) {
          throw bad(what, reader.offset, "bit string without its count of unused bits");
        }
        if (unused > 0 && (content[content.length - 1]! & ((1 << unused) - 1)) !== 0) {
          throw bad(what, reader.offset, "bit string with bits set behind its end");
        }
        break;
      }
      case TAG.oid:
        decodeOid(content, what);
        break;
      case TAG.sequence & 0x1f:
      case TAG.set & 0x1f:
        throw bad(what, reader.offset, "primitive form of a sequence or set");
      default:
        break;
    }
  }
}
