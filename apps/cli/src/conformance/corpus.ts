import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { isAbsolute, join, normalize } from "node:path";
import { type Json, type JsonObject, parseJson, ShelterError } from "@shelter/base";

/** What is wrong with a corpus; its items are judged, the corpus itself must be sound. */
export type CorpusErrorCode = "CORPUS_MALFORMED" | "CORPUS_FILE";

/** A folder that is not an evidence corpus. */
export class CorpusError extends ShelterError<CorpusErrorCode> {
  constructor(code: CorpusErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, code === "CORPUS_FILE" ? "unavailable" : "malformed", message, options);
  }
}

/** One item of a corpus, laid out as its README says. */
export interface CorpusItem {
  readonly id: string;
  readonly tee: string;
  readonly kind: string;
  readonly files: Readonly<Record<string, { readonly file: string; readonly sha256: string }>>;
  readonly verifyAt: Date | undefined;
  readonly inputs: JsonObject;
  readonly expected: JsonObject;
}

const MAX_FILE = 64 * 1024 * 1024;

function malformed(what: string): CorpusError {
  return new CorpusError("CORPUS_MALFORMED", `index.json: ${what}`);
}

function object(value: Json | undefined, what: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw malformed(`${what} is not an object`);
  return value as JsonObject;
}

function string(value: Json | undefined, what: string): string {
  if (typeof value !== "string") throw malformed(`${what} is not a string`);
  return value;
}

/** An entry of the index that cannot be judged, since it does not say what it must. */
export interface BrokenItem {
  readonly id: string;
  readonly error: CorpusError;
}

/** Reads the index of a corpus. An entry that is broken does not keep the others from being judged. */
export function readCorpus(directory: string): (CorpusItem | BrokenItem)[] {
  const path = join(directory, "index.json");
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch (cause) {
    throw new CorpusError("CORPUS_FILE", `cannot read ${path}`, { cause });
  }
  const items = object(parseJson(text, path), "the document")["items"];
  if (!Array.isArray(items)) throw malformed("items is not a list");
  return items.map((item: Json, i: number) => {
    try {
      return readItem(object(item, `items[${i}]`), `items[${i}]`);
    } catch (error) {
      if (!(error instanceof CorpusError)) throw error;
      return { id: `items[${i}]`, error };
    }
  });
}

function readItem(item: JsonObject, what: string): CorpusItem {
  const files: Record<string, { file: string; sha256: string }> = {};
  for (const [role, entry] of Object.entries(object(item["files"], `${what}.files`))) {
    const file = object(entry, `${what}.files.${role}`);
    files[role] = {
      file: string(file["file"], `${what}.files.${role}.file`),
      sha256: string(file["sha256"], `${what}.files.${role}.sha256`),
    };
  }
  const at = item["verify_at"];
  const verifyAt = at === undefined || at === null ? undefined : new Date(string(at, `${what}.verify_at`));
  if (verifyAt !== undefined && Number.isNaN(verifyAt.getTime()))
    throw malformed(`${what}.verify_at is no time`);
  return {
    id: string(item["id"], `${what}.id`),
    tee: string(item["tee"], `${what}.tee`),
    kind: string(item["kind"], `${what}.kind`),
    files,
    verifyAt,
    inputs:
      item["inputs"] === undefined || item["inputs"] === null ? {} : object(item["inputs"], `${what}.inputs`),
    expected: object(item["expected"], `${what}.expected`),
  };
}

/** Reads the files of an item and refuses those that are not what the index says. */
export function readFiles(directory: string, item: CorpusItem): Record<string, Uint8Array> {
  const files: Record<string, Uint8Array> = {};
  for (const [role, { file, sha256 }] of Object.entries(item.files)) {
    if (isAbsolute(file) || normalize(file).startsWith(".."))
      throw malformed(`${item.id}: ${file} leaves the folder`);
    let bytes: Buffer;
    try {
      bytes = readFileSync(join(directory, file));
    } catch (cause) {
      throw new CorpusError("CORPUS_FILE", `${item.id}: cannot read ${file}`, { cause });
    }
    if (bytes.length > MAX_FILE)
      throw new CorpusError("CORPUS_FILE", `${item.id}: ${file} has ${bytes.length} bytes`);
    if (createHash("sha256").update(bytes).digest("hex") !== sha256.toLowerCase()) {
      throw new CorpusError("CORPUS_FILE", `${item.id}: ${file} is not the file the index names`);
    }
    // A view of its own: pooled buffers would share memory between files.
    files[role] = new Uint8Array(bytes);
  }
  return files;
}
