import { type Json, type JsonObject, parseJson } from "@shelter/base";
import { ImageError } from "./errors.ts";

/** A member of a JSON document on its way through the checks, with the path to it for messages. */
export interface Field {
  readonly value: Json | undefined;
  readonly path: string;
}

/** Parses a JSON document from an image; `what` names it. */
export function parseDocument(bytes: Uint8Array, what: string): Field {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new ImageError("IMAGE_MALFORMED", `${what} is not UTF-8`, { cause });
  }
  return { value: parseJson(text, what), path: what };
}

function wrong(field: Field, expected: string): ImageError {
  const have = field.value === undefined ? "nothing" : JSON.stringify(field.value).slice(0, 80);
  return new ImageError("IMAGE_MALFORMED", `${field.path}: expected ${expected}, have ${have}`);
}

/** Whether a member is absent; `null` counts, as Go writes empty lists and maps that way. */
export function absent(field: Field): boolean {
  return field.value === undefined || field.value === null;
}

/** A member of an object; absent where the object has none of that name. */
export function member(field: Field, key: string): Field {
  const object = objectOf(field);
  return { value: Object.hasOwn(object, key) ? object[key] : undefined, path: `${field.path}: ${key}` };
}

/** The field as an object. */
export function objectOf(field: Field): JsonObject {
  const { value } = field;
  if (value === null || typeof value !== "object" || Array.isArray(value)) throw wrong(field, "an object");
  return value as JsonObject;
}

/** The field as a string without NUL, at most `max` characters. */
export function stringOf(field: Field, max = 65_536): string {
  const { value } = field;
  if (typeof value !== "string") throw wrong(field, "a string");
  if (value.length > max) {
    throw new ImageError("LIMIT_EXCEEDED", `${field.path} has ${value.length} characters, at most ${max}`);
  }
  if (value.includes("\0")) throw wrong(field, "a string without NUL");
  return value;
}

/** The field as a size in bytes. */
export function sizeOf(field: Field): number {
  const { value } = field;
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw wrong(field, "a size");
  return value;
}

/** The elements of an array of at most `max`; none where it is absent. */
export function elementsOf(field: Field, max: number): Field[] {
  if (absent(field)) return [];
  const { value } = field;
  if (!Array.isArray(value)) throw wrong(field, "an array");
  if (value.length > max) {
    throw new ImageError("LIMIT_EXCEEDED", `${field.path} has ${value.length} elements, at most ${max}`);
  }
  return value.map((element: Json, i) => ({ value: element, path: `${field.path}[${i}]` }));
}

/** The entries of an object with at most `max` members; none where it is absent. */
export function membersOf(field: Field, max: number): [key: string, value: Field][] {
  if (absent(field)) return [];
  const object = objectOf(field);
  const keys = Object.keys(object);
  if (keys.length > max) {
    throw new ImageError("LIMIT_EXCEEDED", `${field.path} has ${keys.length} members, at most ${max}`);
  }
  return keys.map((key) => [
    key,
    { value: object[key], path: `${field.path}: ${JSON.stringify(key.slice(0, 80))}` },
  ]);
}
