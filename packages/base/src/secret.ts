import { inspect } from "node:util";

/** Bytes that never print: `String(secret)`, JSON and the inspector all show `[secret]`. */
export class SecretBytes {
  readonly #bytes: Uint8Array;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** The bytes themselves; the call is the mark to look for when asking where a secret goes. */
  reveal(): Uint8Array {
    return this.#bytes;
  }

  /** Overwrites the bytes. */
  wipe(): void {
    this.#bytes.fill(0);
  }

  toString(): string {
    return "[secret]";
  }

  toJSON(): string {
    return "[secret]";
  }

  [inspect.custom](): string {
    return "[secret]";
  }
}
