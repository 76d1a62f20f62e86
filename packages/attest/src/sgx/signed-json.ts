import { fromHex, type JsonObject, parseJson } from "@shelter/base";
import { DcapError } from "./error.ts";

/** A signed document of Intel's provisioning service: one member, and the signature over its exact bytes. */
export interface SignedJson {
  readonly body: JsonObject;
  readonly bytes: Uint8Array;
  readonly signature: Uint8Array;
}

const MAX_DOCUMENT_SIZE = 1 << 20; // real ones reach 8 KiB

/** Reads `{"MEMBER": {…}, "signature": "<128 hex>"}`; `what` names it in errors. */
export function parseSignedJson(bytes: Uint8Array, member: string, what: string): SignedJson {
  if (bytes.byteLength > MAX_DOCUMENT_SIZE) throw malformedCollateral(`${what}: ${bytes.byteLength} bytes`);
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new DcapError("COLLATERAL_MALFORMED", `${what} is not UTF-8`, { cause });
  }
  const document = new JsonView(parseJson(text, what), what);
  const unknown = Object.keys(document.object()).find((key) => key !== member && key !== "signature");
  if (unknown !== undefined) throw malformedCollateral(`${what}: unknown member ${JSON.stringify(unknown)}`);
  const signature = document.get("signature").hex(64);
  return {
    body: document.get(member).object(),
    // Decoding was strict, so encoding again gives the bytes that were there.
    bytes: Buffer.from(memberText(text, member), "utf8"),
    signature,
  };
}

/** The error of collateral that does not have its form. */
export function malformedCollateral(message: string): DcapError {
  return new DcapError("COLLATERAL_MALFORMED", message);
}

/** The text of a member of the outermost object. `parseJson` has accepted it: no key comes twice. */
function memberText(text: string, member: string): string {
  let depth = 0;
  let key: string | undefined;
  let start = -1;
  for (let i = 0; i < text.length; i++) {
    const c = text[i];
    if (c === '"') {
      const from = i++;
      while (text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
      if (depth === 1 && start < 0) key = JSON.parse(text.slice(from, i + 1)) as string;
    } else if (c === ":" && depth === 1 && key === member) {
      start = i + 1;
    } else if (c === "{" || c === "[") {
      depth++;
    } else if (c === "}" || c === "]") {
      depth--;
    }
    const ended = (depth === 1 && c === ",") || depth === 0;
    if (start >= 0 && ended) return text.slice(start, i).trim();
    if (depth === 1 && c === ",") key = undefined;
  }
  throw malformedCollateral(`no member ${member}`);
}

const DATE = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/;

/** A place in a JSON document whose readers refuse every other type, naming the place. */
export class JsonView {
  readonly value: unknown;
  readonly path: string;

  constructor(value: unknown, path: string) {
    this.value = value;
    this.path = path;
  }

  #refuse(expected: string): DcapError {
    return malformedCollateral(`${this.path}: expected ${expected}`);
  }

  object(): JsonObject {
    const { value } = this;
    if (typeof value !== "object" || value === null || Array.isArray(value)) throw this.#refuse("an object");
    return value as JsonObject;
  }

  has(key: string): boolean {
    return Object.hasOwn(this.object(), key);
  }

  get(key: string): JsonView {
    if (!this.has(key)) throw malformedCollateral(`${this.path}: no member ${key}`);
    return new JsonView(this.object()[key], `${this.path}.${key}`);
  }

  list(max: number): JsonView[] {
    if (!Array.isArray(this.value) || this.value.length > max) throw this.#refuse(`a list of at most ${max}`);
    return this.value.map((v, i) => new JsonView(v, `${this.path}[${i}]`));
  }

  text(): string {
    if (typeof this.value !== "string") throw this.#refuse("a string");
    return this.value;
  }

  oneOf<T extends string>(values: readonly T[]): T {
    const found = values.find((v) => v === this.value);
    if (found === undefined) throw this.#refuse(values.join(" or "));
    return found;
  }

  uint(max: number): number {
    const { value } = this;
    if (
      typeof value !== "number" ||
      !Number.isInteger(value) ||
      value < 0 ||
      value > max ||
      Object.is(value, -0)
    ) {
      throw this.#refuse(`an integer from 0 to ${max}`);
    }
    return value;
  }

  hex(size: number): Uint8Array {
    const text = this.text();
    if (text.length !== size * 2 || !/^[0-9a-fA-F]*$/.test(text))
      throw this.#refuse(`${size * 2} hex digits`);
    return fromHex(text);
  }

  /** Milliseconds. */
  date(): number {
    const text = this.text();
    const time = DATE.test(text) ? Date.parse(text) : Number.NaN;
    // Date.parse takes the 30th of February for the 2nd of March.
    if (Number.isNaN(time) || new Date(time).toISOString().slice(0, 19) !== text.slice(0, 19)) {
      throw this.#refuse("a date such as 2025-01-31T00:00:00Z");
    }
    return time;
  }
}
