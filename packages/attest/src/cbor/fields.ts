import type { ShelterError } from "@shelter/base";
import { type CborKey, type CborMap, type CborValue, showCbor } from "./decode.ts";

/** What a field of bytes may look like. */
export interface BytesForm {
  readonly sizes?: readonly number[];
  readonly minimum?: number;
  readonly maximum?: number;
}

/** Reads the members of one map by key, with the name of each in the error. */
export class CborFields {
  readonly #map: CborMap;
  readonly #fail: (why: string) => ShelterError;

  /** `fail` makes the error to throw. */
  constructor(map: CborMap, fail: (why: string) => ShelterError) {
    this.#map = map;
    this.#fail = fail;
  }

  #wrong(name: string, value: CborValue, expected: string): never {
    throw this.#fail(
      value === undefined ? `${name} is missing` : `${name} is ${showCbor(value)}, expected ${expected}`,
    );
  }

  get(key: CborKey): CborValue {
    return this.#map.get(key);
  }

  bytes(key: CborKey, name: string, form: BytesForm = {}): Uint8Array {
    const value = this.#map.get(key);
    if (!(value instanceof Uint8Array)) return this.#wrong(name, value, "bytes");
    const { byteLength } = value;
    const { sizes, minimum = 0, maximum = Number.MAX_SAFE_INTEGER } = form;
    if (
      (sizes !== undefined && !sizes.includes(byteLength)) ||
      byteLength < minimum ||
      byteLength > maximum
    ) {
      throw this.#fail(
        `${name} has ${byteLength} bytes, expected ${sizes?.join(" or ") ?? `${minimum} to ${maximum}`}`,
      );
    }
    return value;
  }

  text(key: CborKey, name: string, maximum = 4096): string {
    const value = this.#map.get(key);
    if (typeof value !== "string" || value.length > maximum) return this.#wrong(name, value, "text");
    return value;
  }

  optionalText(key: CborKey, name: string): string | undefined {
    return this.#map.get(key) === undefined ? undefined : this.text(key, name);
  }

  /** A non-negative integer up to a limit. */
  integer(key: CborKey, name: string, maximum: number): number {
    const value = this.#map.get(key);
    if (typeof value !== "number" || value < 0 || value > maximum) {
      return this.#wrong(name, value, `an integer from 0 to ${maximum}`);
    }
    return value;
  }

  array(key: CborKey, name: string): readonly CborValue[] {
    const value = this.#map.get(key);
    if (!Array.isArray(value)) return this.#wrong(name, value, "an array");
    return value as readonly CborValue[];
  }
}
