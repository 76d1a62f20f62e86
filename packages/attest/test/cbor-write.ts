// A writer for tests: whatever a test wants, right or wrong. Encodes by RFC 8949 from plain values.

/** A map, in the order given; keys may repeat, since tests want that too. */
export class Pairs {
  readonly pairs: readonly (readonly [unknown, unknown])[];
  constructor(pairs: readonly (readonly [unknown, unknown])[]) {
    this.pairs = pairs;
  }
}

/** A tagged item. */
export class Tagged {
  readonly tag: number;
  readonly value: unknown;
  constructor(tag: number, value: unknown) {
    this.tag = tag;
    this.value = value;
  }
}

function head(major: number, n: number): Buffer {
  const type = major << 5;
  if (n < 24) return Buffer.from([type | n]);
  if (n < 0x100) return Buffer.from([type | 24, n]);
  if (n < 0x10000) return Buffer.from([type | 25, n >> 8, n & 255]);
  const out = Buffer.alloc(n < 2 ** 32 ? 5 : 9);
  out[0] = type | (n < 2 ** 32 ? 26 : 27);
  if (n < 2 ** 32) out.writeUInt32BE(n, 1);
  else out.writeBigUInt64BE(BigInt(n), 1);
  return out;
}

/** Encodes a value. */
export function cbor(value: unknown): Buffer {
  if (typeof value === "number") return value < 0 ? head(1, -1 - value) : head(0, value);
  if (typeof value === "string")
    return Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)]);
  if (value instanceof Uint8Array) return Buffer.concat([head(2, value.byteLength), value]);
  if (Array.isArray(value)) return Buffer.concat([head(4, value.length), ...value.map(cbor)]);
  if (value instanceof Pairs) {
    return Buffer.concat([
      head(5, value.pairs.length),
      ...value.pairs.flatMap(([k, v]) => [cbor(k), cbor(v)]),
    ]);
  }
  if (value instanceof Tagged) return Buffer.concat([head(6, value.tag), cbor(value.value)]);
  if (value === null) return Buffer.from([0xf6]);
  if (typeof value === "boolean") return Buffer.from([value ? 0xf5 : 0xf4]);
  throw new Error(`cannot encode ${typeof value}`);
}
