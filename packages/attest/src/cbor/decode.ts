import { ByteReader, toHex } from "@shelter/base";
import { CborError } from "./error.ts";

/** A decoded item. Byte strings are views of the input; integers past 2^53 are big. */
export type CborValue =
  | number
  | bigint
  | string
  | boolean
  | null
  | undefined
  | Uint8Array
  | readonly CborValue[]
  | CborMap
  | CborTag;

/** Keys a map may have: evidence uses integers and text, nothing else. */
export type CborKey = number | string;

/** A map; no key is in it twice. */
export type CborMap = ReadonlyMap<CborKey, CborValue>;

/** A tagged item. */
export class CborTag {
  readonly tag: number;
  readonly value: CborValue;

  constructor(tag: number, value: CborValue) {
    this.tag = tag;
    this.value = value;
  }
}

const MAX_SIZE = 1024 * 1024; // tokens and documents stay under 16 KiB
const MAX_DEPTH = 16;
const MAX_ITEMS = 20_000;

interface State {
  readonly reader: ByteReader;
  readonly what: string;
  items: number;
}

function refuse(state: State, why: string): never {
  throw new CborError("CBOR_MALFORMED", `${state.what}: ${why} at offset ${state.reader.offset}`);
}

/**
 * Decodes exactly one CBOR item (RFC 8949). Refused: indefinite lengths, integers and lengths in more bytes than
 * they need, keys twice, keys other than integers and text, floating point, text that is not UTF-8, reserved
 * simple values, and bytes behind the item. Maps may have their keys in any order, which real encoders do not
 * sort.
 */
export function decodeCbor(bytes: Uint8Array, what: string): CborValue {
  if (bytes.byteLength > MAX_SIZE) {
    throw new CborError("CBOR_MALFORMED", `${what}: ${bytes.byteLength} bytes, at most ${MAX_SIZE}`);
  }
  const state: State = { reader: new ByteReader(bytes, what), what, items: 0 };
  const value = readItem(state, 0);
  if (state.reader.remaining !== 0) refuse(state, `${state.reader.remaining} bytes behind the item`);
  return value;
}

/** The argument of an initial byte: a number, big where it must be. Only its shortest form is taken. */
function readArgument(state: State, info: number): number | bigint {
  const { reader } = state;
  if (info < 24) return info;
  let value: number | bigint;
  let least: number | bigint;
  if (info === 24) [value, least] = [reader.u8(), 24];
  else if (info === 25) [value, least] = [reader.u16be(), 0x100];
  else if (info === 26) [value, least] = [reader.u32be(), 0x10000];
  else if (info === 27) [value, least] = [reader.u64be(), 0x100000000n];
  else if (info === 31) return refuse(state, "an indefinite length");
  else return refuse(state, `reserved additional information ${info}`);
  if (value < least) refuse(state, "a number that is not in its shortest form");
  return typeof value === "bigint" && value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value;
}

/** A length that the rest of the input can still hold, at `unit` bytes or more an element. */
function readLength(state: State, info: number, unit: number): number {
  const length = readArgument(state, info);
  if (typeof length === "bigint" || length * unit > state.reader.remaining) {
    return refuse(state, `a length of ${length} with ${state.reader.remaining} bytes left`);
  }
  return length;
}

function readItem(state: State, depth: number): CborValue {
  if (depth > MAX_DEPTH) refuse(state, `nested deeper than ${MAX_DEPTH}`);
  if (++state.items > MAX_ITEMS) refuse(state, `more than ${MAX_ITEMS} items`);
  const initial = state.reader.u8();
  const info = initial & 31;
  switch (initial >> 5) {
    case 0:
      return readArgument(state, info);
    case 1: {
      const value = readArgument(state, info);
      return typeof value === "bigint"
        ? -1n - value
        : value === Number.MAX_SAFE_INTEGER
          ? -1n - BigInt(value)
          : -1 - value;
    }
    case 2:
      return state.reader.take(readLength(state, info, 1));
    case 3:
      return readText(state, readLength(state, info, 1));
    case 4:
      return Array.from({ length: readLength(state, info, 1) }, () => readItem(state, depth + 1));
    case 5:
      return readMap(state, readLength(state, info, 2), depth);
    case 6: {
      const tag = readArgument(state, info);
      if (typeof tag === "bigint") return refuse(state, `tag ${tag}`);
      return new CborTag(tag, readItem(state, depth + 1));
    }
    default:
      return readSimple(state, info);
  }
}

function readText(state: State, length: number): string {
  const bytes = state.reader.take(length);
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    return refuse(state, "text that is not UTF-8");
  }
}

function readMap(state: State, length: number, depth: number): CborMap {
  const map = new Map<CborKey, CborValue>();
  for (let i = 0; i < length; i++) {
    const key = readItem(state, depth + 1);
    if (typeof key !== "number" && typeof key !== "string")
      return refuse(state, "a key that is no integer and no text");
    if (map.has(key)) refuse(state, `the key ${JSON.stringify(key)} twice`);
    map.set(key, readItem(state, depth + 1));
  }
  return map;
}

function readSimple(state: State, info: number): CborValue {
  if (info === 20) return false;
  if (info === 21) return true;
  if (info === 22) return null;
  if (info === 23) return undefined;
  if (info >= 25 && info <= 27) return refuse(state, "a floating-point number");
  if (info === 31) return refuse(state, "a break without an indefinite length");
  return refuse(state, `simple value of information ${info}`);
}

/** Whether an item is a map. */
export function isMap(value: CborValue): value is CborMap {
  return value instanceof Map;
}

/** An item in CBOR's diagnostic notation, cut at 80 characters, for messages. */
export function showCbor(value: CborValue): string {
  const text = show(value);
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}

function show(value: CborValue): string {
  if (value instanceof Uint8Array) return `h'${toHex(value.subarray(0, 40))}'`;
  if (typeof value === "string") return JSON.stringify(value.slice(0, 80));
  if (value instanceof CborTag) return `${value.tag}(${show(value.value)})`;
  if (isMap(value))
    return `{${[...value]
      .slice(0, 8)
      .map(([k, v]) => `${show(k)}: ${show(v)}`)
      .join(", ")}}`;
  if (Array.isArray(value)) return `[${(value as readonly CborValue[]).slice(0, 8).map(show).join(", ")}]`;
  return String(value);
}
