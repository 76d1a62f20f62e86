import { toHex } from "@shelter/base";

/**
 * One decoded field of evidence, for `shelter attest --print`: named as its standard names it, with
 * its value as text and, for structures, the fields inside.
 */
export interface Field {
  readonly name: string;
  readonly value?: string;
  readonly children?: readonly Field[];
}

/** A field of one value: bytes as hex, numbers in decimal, dates in ISO form. */
export function field(name: string, value: string | number | bigint | boolean | Date | Uint8Array): Field {
  if (value instanceof Uint8Array) return { name, value: toHex(value) };
  return { name, value: value instanceof Date ? value.toISOString() : String(value) };
}

/** A field that holds others. */
export function group(name: string, children: readonly Field[], value?: string): Field {
  return value === undefined ? { name, children } : { name, value, children };
}

/** The tree as indented lines, one a field. */
export function fieldLines(fields: readonly Field[], depth = 0): string[] {
  return fields.flatMap((f) => [
    `${"  ".repeat(depth)}${f.name}${f.value === undefined ? "" : `: ${f.value}`}`,
    ...fieldLines(f.children ?? [], depth + 1),
  ]);
}
