/** The head of an item: major type and argument in its shortest form. */
function head(major: number, argument: number): Uint8Array {
  const type = major << 5;
  if (argument < 24) return Uint8Array.of(type | argument);
  if (argument < 0x100) return Uint8Array.of(type | 24, argument);
  if (argument < 0x10000) return Uint8Array.of(type | 25, argument >> 8, argument & 255);
  return Uint8Array.of(
    type | 26,
    argument >>> 24,
    (argument >>> 16) & 255,
    (argument >>> 8) & 255,
    argument & 255,
  );
}

/** A byte string. */
export function cborBytes(bytes: Uint8Array): Uint8Array {
  return Buffer.concat([head(2, bytes.byteLength), bytes]);
}

/** A text string. */
export function cborText(text: string): Uint8Array {
  const bytes = Buffer.from(text, "utf8");
  return Buffer.concat([head(3, bytes.byteLength), bytes]);
}

/** An array of items already encoded. */
export function cborArray(...items: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat([head(4, items.length), ...items]);
}
