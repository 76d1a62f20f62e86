import { createHash, type Hash } from "node:crypto";
import { ImageError } from "../errors.ts";
import type { Feed } from "../feed.ts";
import { MAX_END_PADDING, MAX_EXTENSION_BYTES } from "../limits.ts";
import type { RawName } from "../name.ts";
import { BLOCK, isZeroBlock, paddingOf, parseHeader, type RawHeader } from "./header.ts";
import { type PaxRecords, parsePax, type Xattrs } from "./pax.ts";
import {
  checkPieces,
  gnuSparseTail,
  mapLines,
  parseMap,
  parsePaxSparse,
  type SparsePiece,
  takeGnuTable,
} from "./sparse.ts";
import { Window } from "./window.ts";

/** What an entry of an archive is. */
export type EntryType = "file" | "directory" | "symlink" | "link" | "char" | "block" | "fifo";

/** One entry of an archive, its extensions applied; names as they stand there. */
export interface TarEntry {
  readonly type: EntryType;
  readonly name: RawName;
  readonly linkName: RawName;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Seconds since 1970, rounded down. */
  readonly mtime: number;
  /** Bytes of the file, holes counted; 0 for anything but a file. */
  readonly size: number;
  readonly major: number;
  readonly minor: number;
  readonly xattrs: Xattrs | undefined;
  /** Stored runs of a sparse file. */
  readonly pieces: readonly SparsePiece[] | undefined;
}

/** Takes bytes of a file in their order; may make the reader wait. */
export type DataSink = (bytes: Buffer) => Promise<void> | undefined;

const TYPES: Readonly<Record<string, EntryType>> = {
  "0": "file",
  "\0": "file",
  "7": "file", // contiguous: nothing but a file on today's systems
  S: "file",
  "1": "link",
  "2": "symlink",
  "3": "char",
  "4": "block",
  "5": "directory",
  "6": "fifo",
};

/** One zero-filled run for holes. */
const ZEROS = Buffer.alloc(64 * 1024);

/** Reads an archive entry by entry, strictly; what is damaged or ambiguous is a named error. */
export class TarReader {
  readonly #feed: Feed;
  readonly #window: Window;
  readonly #what: string;
  readonly #structure: Hash = createHash("sha256");
  #entry: TarEntry | undefined;
  #stored = 0;
  #padding = 0;

  /** `windowBytes` is read at once; small where most data is passed over. */
  constructor(feed: Feed, what: string, windowBytes: number) {
    this.#feed = feed;
    this.#window = new Window(feed, windowBytes, what);
    this.#what = what;
  }

  /** Offset of the next unread byte: behind `next()`, where the entry's data starts. */
  get offset(): number {
    return this.#window.offset;
  }

  /** SHA-256 over all headers so far: two readings of one archive that agree here saw the same entries. */
  structure(): string {
    return this.#structure.copy().digest("hex");
  }

  /** The next entry, or undefined behind the last; data not read is passed over. */
  async next(): Promise<TarEntry | undefined> {
    if (this.#stored + this.#padding > 0) await this.#window.skip(this.#stored + this.#padding);
    this.#stored = 0;
    this.#padding = 0;
    this.#entry = undefined;
    let pax: PaxRecords | undefined;
    let longName: RawName | undefined;
    let longLink: RawName | undefined;
    for (;;) {
      const at = this.#window.offset;
      const where = `${this.#what} at byte ${at}`;
      const block = await this.#window.peek(BLOCK);
      if (block === undefined) {
        throw new ImageError("TAR_TRUNCATED", `${this.#what} ends at byte ${at} without an end marker`);
      }
      if (isZeroBlock(block)) {
        if (pax !== undefined || longName !== undefined || longLink !== undefined) {
          throw new ImageError("TAR_TRUNCATED", `${where}: archive ends behind an extension header`);
        }
        await this.#end();
        return undefined;
      }
      this.#structure.update(block);
      const header = parseHeader(block, where);
      switch (header.type) {
        case "x":
          if (pax !== undefined)
            throw new ImageError("TAR_MALFORMED", `${where}: two PAX headers for one entry`);
          pax = parsePax(await this.#extension(header, where), where);
          continue;
        case "g":
          // containerd and Docker read global headers and apply none; the records must be well-formed
          parsePax(await this.#extension(header, where), where);
          continue;
        case "L":
          longName = untilNul(await this.#extension(header, where));
          continue;
        case "K":
          longLink = untilNul(await this.#extension(header, where));
          continue;
        default:
          return await this.#begin(header, pax, longName, longLink, where);
      }
    }
  }

  /** Hands all bytes of the current entry to `sink`, holes as zeros. */
  async data(sink: DataSink): Promise<void> {
    const entry = this.#entry;
    if (entry === undefined) throw new ImageError("TAR_MALFORMED", `${this.#what}: no entry to read`);
    if (entry.pieces === undefined) {
      await this.#copy(entry.size, sink);
    } else {
      let at = 0;
      for (const piece of entry.pieces) {
        await this.#zeros(piece.offset - at, sink);
        await this.#copy(piece.length, sink);
        at = piece.offset + piece.length;
      }
      await this.#zeros(entry.size - at, sink);
    }
  }

  async #copy(count: number, sink: DataSink): Promise<void> {
    let left = count;
    while (left > 0) {
      const bytes = await this.#window.some(left);
      left -= bytes.length;
      this.#stored -= bytes.length;
      const wait = sink(bytes);
      if (wait !== undefined) await wait;
    }
  }

  async #zeros(count: number, sink: DataSink): Promise<void> {
    for (let left = count; left > 0; left -= ZEROS.length) {
      const wait = sink(left < ZEROS.length ? ZEROS.subarray(0, left) : ZEROS);
      if (wait !== undefined) await wait;
    }
  }

  async #extension(header: RawHeader, where: string): Promise<Buffer> {
    const { size } = header;
    if (size < 0 || size > MAX_EXTENSION_BYTES) {
      throw new ImageError("LIMIT_EXCEEDED", `${where}: extension header of ${size} bytes`);
    }
    await this.#window.skip(BLOCK);
    const body = Buffer.allocUnsafe(size);
    for (let at = 0; at < size; ) {
      const bytes = await this.#window.some(size - at);
      bytes.copy(body, at);
      at += bytes.length;
    }
    await this.#window.skip(paddingOf(size));
    this.#structure.update(body);
    return body;
  }

  async #begin(
    header: RawHeader,
    pax: PaxRecords | undefined,
    longName: RawName | undefined,
    longLink: RawName | undefined,
    where: string,
  ): Promise<TarEntry> {
    let type = TYPES[header.type];
    if (type === undefined) {
      throw new ImageError("ENTRY_REFUSED", `${where}: entry of unknown type ${JSON.stringify(header.type)}`);
    }
    let name = pax?.path ?? longName ?? header.name;
    if (header.type === "\0" && name.endsWith("/")) type = "directory"; // v7 had no directory type
    let stored = pax?.size ?? header.size;
    if (stored < 0) throw new ImageError("TAR_MALFORMED", `${where}: size ${stored} is negative`);
    if (type !== "file" && stored > 0) {
      // GNU tar passes over such bytes, Go and Python do not: two readers, two archives
      throw new ImageError("TAR_MALFORMED", `${where}: ${type} with ${stored} bytes of data`);
    }
    let size = stored;
    let pieces: SparsePiece[] | undefined;
    if (header.type === "S") {
      ({ size, pieces } = await this.#gnuSparse(header, where));
      checkPieces(pieces, size, stored, where);
    } else {
      await this.#window.skip(BLOCK);
      const sparse =
        type === "file" && pax?.sparse !== undefined ? parsePaxSparse(pax.sparse, where) : undefined;
      if (sparse !== undefined) {
        name = sparse.name ?? name;
        size = sparse.size;
        if (sparse.pieces === undefined) {
          const before = this.#window.offset;
          pieces = await this.#paxMap(stored, where);
          stored -= this.#window.offset - before;
        } else {
          pieces = sparse.pieces;
        }
        checkPieces(pieces, size, stored, where);
      }
    }
    this.#stored = stored;
    this.#padding = paddingOf(stored);
    this.#entry = {
      type,
      name,
      linkName: pax?.linkPath ?? longLink ?? header.linkName,
      mode: header.mode & 0o7777,
      uid: pax?.uid ?? header.uid,
      gid: pax?.gid ?? header.gid,
      mtime: pax?.mtime ?? header.mtime,
      size,
      major: header.major,
      minor: header.minor,
      xattrs: pax?.xattrs,
      pieces,
    };
    return this.#entry;
  }

  async #gnuSparse(header: RawHeader, where: string): Promise<{ size: number; pieces: SparsePiece[] }> {
    if (!header.gnu) throw new ImageError("TAR_MALFORMED", `${where}: old sparse file without GNU magic`);
    const pieces: SparsePiece[] = [];
    const block = await this.#window.take(BLOCK);
    takeGnuTable(pieces, block, 386, 4, where);
    const tail = gnuSparseTail(block, where);
    let { extended } = tail;
    while (extended) {
      const table = await this.#window.take(BLOCK);
      this.#structure.update(table);
      takeGnuTable(pieces, table, 0, 21, where);
      extended = table[504] !== 0;
    }
    return { size: tail.size, pieces };
  }

  async #paxMap(stored: number, where: string): Promise<SparsePiece[]> {
    let text = "";
    let lines = 0;
    let wanted = Number.POSITIVE_INFINITY;
    for (let taken = 0; lines < wanted; taken += BLOCK) {
      if (taken + BLOCK > stored || (taken > 0 && wanted === Number.POSITIVE_INFINITY)) {
        throw new ImageError("TAR_MALFORMED", `${where}: sparse map does not end`);
      }
      const block = await this.#window.take(BLOCK);
      this.#structure.update(block);
      const part = untilNul(block);
      text += part;
      for (let i = part.indexOf("\n"); i !== -1; i = part.indexOf("\n", i + 1)) lines++;
      if (lines > 0 && wanted === Number.POSITIVE_INFINITY) wanted = mapLines(text, where);
    }
    return parseMap(text, where);
  }

  /** Behind the end marker only zeros may follow: tar pads to its record size. */
  async #end(): Promise<void> {
    const start = this.#window.offset;
    for (;;) {
      const left = await this.#window.peek(1);
      if (left === undefined) break;
      const bytes = await this.#window.some(BLOCK * 64);
      if (!isAllZero(bytes)) {
        throw new ImageError("TAR_MALFORMED", `${this.#what}: data behind the end marker at byte ${start}`);
      }
      if (this.#window.offset - start > MAX_END_PADDING) {
        throw new ImageError(
          "LIMIT_EXCEEDED",
          `${this.#what}: more than ${MAX_END_PADDING} bytes of padding behind the end marker`,
        );
      }
    }
    await this.#feed.finish();
  }
}

function isAllZero(bytes: Buffer): boolean {
  for (let i = 0; i < bytes.length; i++) if (bytes[i] !== 0) return false;
  return true;
}

function untilNul(body: Buffer): RawName {
  const nul = body.indexOf(0);
  return body.toString("latin1", 0, nul === -1 ? body.length : nul);
}
