/** What is written into a CoRIM: deterministic CBOR (RFC 8949, 4.2.1) of these. */
export type Cbor =
  | number
  | string
  | Uint8Array
  | readonly Cbor[]
  | ReadonlyMap<number | string, Cbor>
  | CborTagged;

/** A tagged item. */
export class CborTagged {
  readonly tag: number;
  readonly value: Cbor;

  constructor(tag: number, value: Cbor) {
    this.tag = tag;
    this.value = value;
  }
}

/** The head of an item: major type and argument in its shortest form. */
function head(major: number, argument: number): Buffer {
  const type = major << 5;
  if (argument < 24) return Buffer.of(type | argument);
  if (argument < 0x100) return Buffer.of(type | 24, argument);
  const wide = Buffer.alloc(argument < 0x10000 ? 3 : 5, type | (argument < 0x10000 ? 25 : 26));
  wide.writeUIntBE(argument, 1, wide.length - 1);
  return wide;
}

/** Encodes; maps come out sorted by their encoded keys. Numbers are whole, from 0 to 2^32 - 1. */
export function encodeCbor(value: Cbor): Uint8Array {
  if (typeof value === "number") return head(0, value);
  if (typeof value === "string") {
    const bytes = Buffer.from(value, "utf8");
    return Buffer.concat([head(3, bytes.byteLength), bytes]);
  }
  if (value instanceof Uint8Array) return Buffer.concat([head(2, value.byteLength), value]);
  if (value instanceof CborTagged) return Buffer.concat([head(6, value.tag), encodeCbor(value.value)]);
  if (value instanceof Map) {
    const entries = [...value].map(([key, item]) => [encodeCbor(key), encodeCbor(item)] as const);
    entries.sort(([a], [b]) => Buffer.compare(a, b));
    return Buffer.concat([head(5, entries.length), ...entries.flat()]);
  }
  const items = [...(value as readonly Cbor[])];
  return Buffer.concat([head(4, items.length), ...items.map(encodeCbor)]);
}
