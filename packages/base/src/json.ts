import { ShelterError } from "./errors.ts";

/** A JSON value (RFC 8259). */
export type Json =
  | null
  | boolean
  | number
  | string
  | readonly Json[]
  | { readonly [key: string]: Json | undefined };

/** A JSON object. */
export type JsonObject = { readonly [key: string]: Json | undefined };

/** JSON text from outside that is not JSON, or not JSON we accept. */
export class JsonError extends ShelterError<"JSON_MALFORMED" | "JSON_DUPLICATE_KEY" | "JSON_TOO_DEEP"> {}

/** JSON Canonicalization Scheme (RFC 8785): sorted keys, no white space; members that are undefined are left out. */
export function canonicalJson(value: Json): string {
  if (value === null || typeof value === "boolean" || typeof value === "string") return JSON.stringify(value);
  if (typeof value === "number") {
    if (!Number.isFinite(value))
      throw new JsonError("JSON_MALFORMED", "bug", "a number that JSON cannot hold");
    return JSON.stringify(value);
  }
  if (Array.isArray(value)) return `[${value.map((v) => canonicalJson(v as Json)).join(",")}]`;
  const object = value as JsonObject;
  const members: string[] = [];
  // RFC 8785 section 3.2.3: keys in order of their UTF-16 code units, which is what sort() compares.
  for (const key of Object.keys(object).sort()) {
    const member = object[key];
    if (member !== undefined) members.push(`${JSON.stringify(key)}:${canonicalJson(member)}`);
  }
  return `{${members.join(",")}}`;
}

const MAX_DEPTH = 64;

/**
 * Parses JSON from outside: refuses duplicate keys (two readers could see two values), nesting deeper
 * than 64 and anything JSON.parse refuses. `what` names the document in the error.
 */
export function parseJson(text: string, what: string): Json {
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch (cause) {
    throw new JsonError("JSON_MALFORMED", "malformed", `${what} is not JSON`, { cause });
  }
  refuseDuplicates(text, what);
  return value;
}

/** Scans text that JSON.parse has accepted, so only strings and brackets need telling apart. */
function refuseDuplicates(text: string, what: string): void {
  const open: (Set<string> | null)[] = [];
  let i = 0;
  let expectKey = false;
  while (i < text.length) {
    const c = text.charCodeAt(i);
    if (c === 0x22) {
      const start = i++;
      while (text.charCodeAt(i) !== 0x22) i += text.charCodeAt(i) === 0x5c ? 2 : 1;
      i++;
      const keys = open.at(-1);
      if (expectKey && keys) {
        const key = JSON.parse(text.slice(start, i)) as string;
        if (keys.has(key)) {
          throw new JsonError(
            "JSON_DUPLICATE_KEY",
            "malformed",
            `${what} has the key ${JSON.stringify(key)} twice`,
          );
        }
        keys.add(key);
        expectKey = false;
      }
      continue;
    }
    if (c === 0x7b || c === 0x5b) {
      open.push(c === 0x7b ? new Set() : null);
      if (open.length > MAX_DEPTH) {
        throw new JsonError("JSON_TOO_DEEP", "malformed", `${what} is nested deeper than ${MAX_DEPTH}`);
      }
      expectKey = c === 0x7b;
    } else if (c === 0x7d || c === 0x5d) {
      open.pop();
      expectKey = false;
    } else if (c === 0x2c) {
      expectKey = open.at(-1) instanceof Set;
    }
    i++;
  }
}
