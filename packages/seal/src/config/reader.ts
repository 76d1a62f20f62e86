import { isAlias, isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from "yaml";
import { SealError } from "../errors.ts";

const MAX_FILE_SIZE = 256 * 1024; // a longer configuration could not become a manifest
const MAX_DEPTH = 16; // the deepest right one has 5

/** A YAML value with its place in the file; every reader of it throws with line and column. */
export class YamlValue {
  readonly #node: Node | null;
  readonly #place: (offset: number) => string;
  readonly #offset: number;
  /** Where it stands, as `allow.args`. */
  readonly path: string;

  constructor(node: Node | null, offset: number, path: string, place: (offset: number) => string) {
    this.#node = node;
    this.#offset = node?.range?.[0] ?? offset;
    this.path = path;
    this.#place = place;
  }

  /** The error that this value is not what its place demands. */
  wrong(expected: string, hint?: string): SealError {
    const where = this.path === "" ? "" : ` for ${this.path}`;
    return this.error(`expected ${expected}${where}, have ${this.#have()}`, hint);
  }

  /** An error at this value. */
  error(message: string, hint?: string): SealError {
    const text = `${this.#place(this.#offset)}: ${message}`;
    return new SealError("YAML_MALFORMED", "usage", text, hint === undefined ? {} : { hint });
  }

  #have(): string {
    const node = this.#node;
    if (isMap(node)) return "a map";
    if (isSeq(node)) return "a list";
    if (isAlias(node)) return "an alias";
    if (!isScalar(node) || node.value === null) return "nothing";
    const source = String(node.source ?? node.value);
    const shown = source.length > 60 ? `${source.slice(0, 60)}…` : source;
    if (typeof node.value === "string") return JSON.stringify(shown);
    return `the ${typeof node.value} ${shown}`;
  }

  get isNothing(): boolean {
    return this.#node === null || (isScalar(this.#node) && this.#node.value === null);
  }

  get isList(): boolean {
    return isSeq(this.#node);
  }

  get isMap(): boolean {
    return isMap(this.#node);
  }

  /** The value if it is a scalar, else undefined. */
  get scalar(): unknown {
    return isScalar(this.#node) ? this.#node.value : undefined;
  }

  /** A scalar as it is written in the file. */
  source(expected: string): string {
    const node = this.#node;
    if (!isScalar(node) || node.value === null) throw this.wrong(expected);
    return String(node.source ?? node.value);
  }

  text(expected = "text"): string {
    const value = this.scalar;
    if (typeof value !== "string") {
      const quote = typeof value === "number" || typeof value === "boolean";
      throw this.wrong(expected, quote ? `write it in quotes: "${this.source(expected)}"` : undefined);
    }
    if (value.includes("\0") || !value.isWellFormed())
      throw this.error(`${expected} holds a NUL or half a character`);
    return value;
  }

  boolean(): boolean {
    const value = this.scalar;
    if (typeof value !== "boolean") throw this.wrong("true or false");
    return value;
  }

  integer(min: number, max: number): number {
    const value = this.scalar;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < min || value > max) {
      throw this.wrong(`a whole number from ${min} to ${max}`);
    }
    return value;
  }

  list(expected: string, max: number): YamlValue[] {
    const node = this.#node;
    if (!isSeq(node)) throw this.wrong(expected);
    if (node.items.length > max)
      throw this.error(`${this.path} has ${node.items.length} entries, more than ${max}`);
    return node.items.map((item, i) => this.#child(item as Node | null, `${this.path}[${i}]`));
  }

  /** The members in order, whatever their names. */
  members(expected: string, max: number): { name: string; key: YamlValue; value: YamlValue }[] {
    const node = this.#node;
    if (!isMap(node)) throw this.wrong(expected);
    if (node.items.length > max)
      throw this.error(`${this.path} has ${node.items.length} entries, more than ${max}`);
    return node.items.map((pair) => {
      const key = this.#child(pair.key as Node | null, this.path);
      const name = key.text("a name");
      const path = this.path === "" ? name : `${this.path}.${name}`;
      const value = new YamlValue(pair.value as Node | null, key.#offset, path, this.#place);
      return { name, key, value };
    });
  }

  /** The members of a map that may have these names only. */
  map<Name extends string>(names: readonly Name[]): { [N in Name]?: YamlValue } {
    const found: { [N in Name]?: YamlValue } = {};
    const choice = names.join(", ");
    for (const { name, key, value } of this.members(`a map with ${choice}`, 256)) {
      const known = names.find((n) => n === name);
      if (known === undefined) {
        const near = nearest(name, names);
        const where = this.path === "" ? "" : ` in ${this.path}`;
        throw key.error(
          `expected one of ${choice}${where}, have ${JSON.stringify(name)}`,
          near === undefined ? undefined : `did you mean ${near}?`,
        );
      }
      found[known] = value;
    }
    return found;
  }

  #child(node: Node | null, path: string): YamlValue {
    return new YamlValue(node, this.#offset, path, this.#place);
  }
}

/** The name a person most likely meant: two letters differ, or a third of them; one in a short name. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = (name.length < 4 ? 1 : Math.max(2, Math.floor(name.length / 3))) + 1;
  for (const candidate of names) {
    if (Math.abs(candidate.length - name.length) >= bestDistance) continue;
    const distance = editDistance(name.toLowerCase(), candidate.toLowerCase());
    if (distance < bestDistance) {
      best = candidate;
      bestDistance = distance;
    }
  }
  return best;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}

/** Reads YAML from outside: one document, no anchors (a name for many copies is a bomb's fuse), no tags, bounded. */
export function readYaml(text: string, file: string): YamlValue {
  const counter = new LineCounter();
  const place = (offset: number): string => {
    const { line, col } = counter.linePos(offset);
    return `${file}:${line}:${col}`;
  };
  const fail = (offset: number, message: string): SealError =>
    new SealError("YAML_MALFORMED", "usage", `${place(offset)}: ${message}`);
  if (Buffer.byteLength(text) > MAX_FILE_SIZE) {
    throw new SealError(
      "YAML_MALFORMED",
      "usage",
      `${file}:1:1: the file is longer than ${MAX_FILE_SIZE} bytes`,
    );
  }
  const document = parseDocument(text, {
    lineCounter: counter,
    prettyErrors: false,
    version: "1.2",
    merge: false,
  });
  const problem = document.errors[0] ?? document.warnings[0];
  if (problem !== undefined) {
    if (problem.code === "DUPLICATE_KEY")
      throw fail(problem.pos[0], "expected each name once, have it twice");
    // The parser calls itself for each level.
    if (/call stack/.test(problem.message))
      throw fail(problem.pos[0], `expected at most ${MAX_DEPTH} levels, have more`);
    const message = problem.message.split("\n", 1)[0] ?? "";
    throw fail(problem.pos[0], `expected YAML, have: ${message.charAt(0).toLowerCase()}${message.slice(1)}`);
  }
  const refuse = (node: unknown, depth: number): void => {
    if (node === null || typeof node !== "object") return;
    const at = (node as Node).range?.[0] ?? 0;
    if (isAlias(node)) throw fail(at, `expected a value, have the alias *${node.source}`);
    if (depth > MAX_DEPTH) throw fail(at, `expected at most ${MAX_DEPTH} levels, have more`);
    const marked = node as { anchor?: string; tag?: string };
    if (marked.anchor !== undefined) throw fail(at, `expected a value, have the anchor &${marked.anchor}`);
    if (marked.tag !== undefined) throw fail(at, `expected a value, have the tag ${marked.tag}`);
    if (isSeq(node)) for (const item of node.items) refuse(item, depth + 1);
    if (isMap(node)) {
      for (const pair of node.items) {
        refuse(pair.key, depth + 1);
        refuse(pair.value, depth + 1);
      }
    }
  };
  refuse(document.contents, 0);
  return new YamlValue(document.contents as Node | null, 0, "", place);
}
