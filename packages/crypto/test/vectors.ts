import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** `../shared/vectors/sm` beside the repository; tests that need it skip, and say so, where it is absent. */
export const VECTORS: string = join(import.meta.dirname, "../../../../shared/vectors/sm");

/** Why the vectors cannot be used, or false. */
export const skip: string | false = existsSync(VECTORS)
  ? false
  : `the vectors are absent: no folder ${VECTORS}`;

/** Text of one vector file. */
export function vectors(name: string): string {
  return readFileSync(join(VECTORS, name), "utf8");
}

/** A vector file of JSON; the caller names the shape it relies on. */
export function jsonVectors<T>(name: string): T {
  return JSON.parse(vectors(name)) as T;
}

/** Bytes of hex digits. */
export function hex(text: string): Uint8Array {
  return Buffer.from(text, "hex");
}

/** Records of a Botan or OpenSSL test file: `Key = value` lines, blocks apart by blank lines; comments dropped. */
export function records(text: string): Map<string, string>[] {
  const out: Map<string, string>[] = [];
  for (const block of text.replaceAll(/^\s*#.*$/gm, "").split(/\n\s*\n/)) {
    const record = new Map<string, string>();
    for (const line of block.split("\n")) {
      const at = line.indexOf("=");
      if (at > 0) record.set(line.slice(0, at).trim(), line.slice(at + 1).trim());
    }
    if (record.size > 0) out.push(record);
  }
  return out;
}
