import { BrokerError } from "../errors.ts";

declare const pathBrand: unique symbol;

/** `repo/type/tag` in the characters Trustee allows. */
export type ResourcePath = string & { readonly [pathBrand]: true };

// Trustee's own expression per part; a part cannot begin with a dot, so "." and ".." cannot occur.
const PART = /^[a-zA-Z0-9_-][a-zA-Z0-9_.-]*$/;
const MAX_PART = 128; // a path is a key of the database, not a document

/** Reads `repo/type/tag`; anything else, encoded or not, is refused. */
export function parseResourcePath(text: string): ResourcePath {
  const parts = text.split("/");
  if (parts.length !== 3 || !parts.every((p) => PART.test(p) && p.length <= MAX_PART)) {
    throw new BrokerError(
      "RESOURCE_PATH",
      "malformed",
      `resource ${JSON.stringify(text.slice(0, 200))} is not repo/type/tag`,
      { hint: "each part is letters, digits, _ - and . (not first), at most 128 characters" },
    );
  }
  return text as ResourcePath;
}

/** Reads `kbs:///repo/type/tag` or `repo/type/tag`. A host in the URI is ignored, as guest-components do. */
export function parseResourceUri(uri: string): ResourcePath {
  const match = /^kbs:\/\/[^/]*\/(.*)$/s.exec(uri);
  return parseResourcePath(match ? (match[1] ?? "") : uri);
}

/** The URI of a path. */
export function resourceUri(path: ResourcePath): string {
  return `kbs:///${path}`;
}

declare const patternBrand: unique symbol;

/** A resource path in which `*` stands for any characters of one part. */
export type ResourcePattern = string & { readonly [patternBrand]: true };

const PATTERN_PART = /^[a-zA-Z0-9_*-][a-zA-Z0-9_.*-]*$/;

/** Reads a pattern, `kbs:///` in front or not. */
export function parsePattern(text: string): ResourcePattern {
  const match = /^kbs:\/\/\/(.*)$/s.exec(text);
  const path = match ? (match[1] ?? "") : text;
  const parts = path.split("/");
  const fits = (p: string) => PATTERN_PART.test(p) && p.length <= MAX_PART && !p.includes("**");
  if (parts.length !== 3 || !parts.every(fits)) {
    throw new BrokerError(
      "PATTERN_MALFORMED",
      "malformed",
      `pattern ${JSON.stringify(text.slice(0, 200))} is not kbs:///repo/type/tag with * for any characters of one part`,
    );
  }
  return path as ResourcePattern;
}

/** Whether a pattern covers a path. */
export function covers(pattern: ResourcePattern, path: ResourcePath): boolean {
  const wanted = pattern.split("/");
  const parts = path.split("/");
  return wanted.every((p, i) => matchesPart(p, parts[i] ?? ""));
}

/** Greedy wildcard match with one fallback point: linear in practice, never exponential. */
function matchesPart(pattern: string, text: string): boolean {
  let p = 0;
  let t = 0;
  let star = -1;
  let mark = 0;
  while (t < text.length) {
    if (pattern[p] === "*") {
      star = p++;
      mark = t;
    } else if (pattern[p] === text[t]) {
      p++;
      t++;
    } else if (star >= 0) {
      p = star + 1;
      t = ++mark;
    } else {
      return false;
    }
  }
  while (pattern[p] === "*") p++;
  return p === pattern.length;
}
