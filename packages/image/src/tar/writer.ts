import type { Writable } from "node:stream";
import { ImageError } from "../errors.ts";
import { nameBytes, type RawName } from "../name.ts";
import { BLOCK, paddingOf } from "./header.ts";
import type { Xattrs } from "./pax.ts";

/** One header to write. */
export interface WriteEntry {
  /** ustar type flag. */
  readonly type: "0" | "1" | "2" | "3" | "4" | "5" | "6";
  readonly name: RawName;
  readonly linkName: RawName;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly size: number;
  readonly major: number;
  readonly minor: number;
  readonly xattrs: Xattrs | undefined;
}

/** Collected before it goes to the stream, so that small entries cost no write of their own. */
const OUTPUT_BYTES = 256 * 1024;

const MAX_OCTAL_7 = 0o7777777;
const MAX_OCTAL_11 = 0o77777777777;
/** Squashfs stores times as 32 bits without sign; tar2sqfs would clamp as well. */
const MAX_TIME = 2 ** 32 - 1;

const ZEROS = Buffer.alloc(BLOCK);

/**
 * Writes a ustar archive with PAX headers where a value does not fit. Two buffers take turns, so that one
 * fills while the stream drains the other and nothing else is ever held.
 */
export class TarWriter {
  readonly #stream: Writable;
  #filling = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
  #spare = Buffer.allocUnsafeSlow(OUTPUT_BYTES);
  #used = 0;
  #busy: Promise<void> | undefined;
  readonly #header = Buffer.alloc(BLOCK);

  constructor(stream: Writable) {
    this.#stream = stream;
  }

  /** Adds bytes; the promise, where there is one, must be waited for before the next call. */
  write(bytes: Buffer): Promise<void> | undefined {
    if (bytes.length <= OUTPUT_BYTES - this.#used) {
      bytes.copy(this.#filling, this.#used);
      this.#used += bytes.length;
      return undefined;
    }
    return this.#writeLong(bytes);
  }

  async #writeLong(bytes: Buffer): Promise<void> {
    for (let at = 0; at < bytes.length; ) {
      if (this.#used === OUTPUT_BYTES) await this.#flush();
      const count = Math.min(bytes.length - at, OUTPUT_BYTES - this.#used);
      bytes.copy(this.#filling, this.#used, at, at + count);
      this.#used += count;
      at += count;
    }
  }

  async #flush(): Promise<void> {
    await this.#busy;
    const full = this.#filling;
    const bytes = full.subarray(0, this.#used);
    this.#filling = this.#spare;
    this.#spare = full;
    this.#used = 0;
    this.#busy = new Promise((resolve, reject) => {
      this.#stream.write(bytes, (error) => {
        if (error)
          reject(new ImageError("OUTPUT_FAILED", "cannot write the flattened tree", { cause: error }));
        else resolve();
      });
    });
    // whoever flushes next waits for it; until then a failure must not count as unhandled
    this.#busy.catch(() => undefined);
  }

  /** Writes an entry's header; its data, `size` bytes and then `pad(size)`, is the caller's. */
  async header(entry: WriteEntry): Promise<void> {
    const records = paxRecords(entry);
    if (records.length > 0) {
      const body = Buffer.concat(records);
      await this.write(this.#fill({ ...PAX_ENTRY, size: body.length }, "x"));
      await this.write(body);
      await this.pad(body.length);
    }
    await this.write(this.#fill(entry, entry.type));
  }

  /** Fills up to a block boundary behind `size` bytes of data. */
  pad(size: number): Promise<void> | undefined {
    return this.write(ZEROS.subarray(0, paddingOf(size)));
  }

  /** Writes the end marker and waits until the stream has everything. */
  async end(): Promise<void> {
    await this.write(ZEROS);
    await this.write(ZEROS);
    await this.#flush();
    await this.#busy;
  }

  #fill(entry: WriteEntry, type: string): Buffer {
    const block = this.#header;
    block.fill(0);
    block.write(entry.name.slice(0, 100), 0, "latin1");
    octal(block, 100, 8, entry.mode);
    octal(block, 108, 8, entry.uid > MAX_OCTAL_7 ? 0 : entry.uid);
    octal(block, 116, 8, entry.gid > MAX_OCTAL_7 ? 0 : entry.gid);
    octal(block, 124, 12, entry.size > MAX_OCTAL_11 ? 0 : entry.size);
    octal(block, 136, 12, Math.min(Math.max(entry.mtime, 0), MAX_TIME));
    block.write(type, 156, "latin1");
    block.write(entry.linkName.slice(0, 100), 157, "latin1");
    block.write("ustar\x0000", 257, "latin1");
    octal(block, 329, 8, entry.major);
    octal(block, 337, 8, entry.minor);
    block.fill(0x20, 148, 156);
    let sum = 0;
    for (let i = 0; i < BLOCK; i++) sum += block[i] ?? 0;
    block.write(`${sum.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
    return block;
  }
}

const PAX_ENTRY: WriteEntry = {
  type: "0",
  name: "././@PaxHeader",
  linkName: "",
  mode: 0o644,
  uid: 0,
  gid: 0,
  mtime: 0,
  size: 0,
  major: 0,
  minor: 0,
  xattrs: undefined,
};

function octal(block: Buffer, at: number, length: number, value: number): void {
  block.write(value.toString(8).padStart(length - 1, "0"), at, "latin1");
}

function paxRecords(entry: WriteEntry): Buffer[] {
  const records: Buffer[] = [];
  if (entry.name.length > 100) records.push(record("path", nameBytes(entry.name)));
  if (entry.linkName.length > 100) records.push(record("linkpath", nameBytes(entry.linkName)));
  if (entry.size > MAX_OCTAL_11) records.push(record("size", nameBytes(String(entry.size))));
  if (entry.uid > MAX_OCTAL_7) records.push(record("uid", nameBytes(String(entry.uid))));
  if (entry.gid > MAX_OCTAL_7) records.push(record("gid", nameBytes(String(entry.gid))));
  if (entry.xattrs !== undefined) {
    for (const key of [...entry.xattrs.keys()].sort()) {
      records.push(record(`SCHILY.xattr.${key}`, entry.xattrs.get(key) ?? ZEROS.subarray(0, 0)));
    }
  }
  return records;
}

/** A PAX record; its length counts its own digits. */
function record(key: string, value: Buffer): Buffer {
  const rest = key.length + value.length + 3;
  let length = rest + String(rest).length;
  length = rest + String(length).length;
  return Buffer.concat([Buffer.from(`${length} ${key}=`, "latin1"), value, Buffer.from("\n")]);
}
