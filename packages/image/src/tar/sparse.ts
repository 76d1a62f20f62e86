import { ImageError } from "../errors.ts";
import { MAX_SPARSE_PIECES } from "../limits.ts";
import { parseNumber } from "./header.ts";
import { decimalOf } from "./pax.ts";

/** A run of stored bytes of a sparse file; between the runs are holes. */
export interface SparsePiece {
  readonly offset: number;
  readonly length: number;
}

/** Checks a sparse map: ascending, not overlapping, inside the file, and exactly as long as what is stored. */
export function checkPieces(
  pieces: readonly SparsePiece[],
  size: number,
  stored: number,
  where: string,
): void {
  let end = 0;
  let sum = 0;
  for (const piece of pieces) {
    if (piece.offset < end || piece.length < 0 || piece.offset + piece.length > size) {
      throw new ImageError(
        "TAR_MALFORMED",
        `${where}: sparse piece at ${piece.offset} of ${piece.length} bytes overlaps or leaves its file of ${size}`,
      );
    }
    end = piece.offset + piece.length;
    sum += piece.length;
  }
  if (sum !== stored) {
    throw new ImageError("TAR_MALFORMED", `${where}: sparse map covers ${sum} bytes, ${stored} are stored`);
  }
}

/** Adds the entries of one old GNU sparse table (24 bytes each) to a map; stops at the first empty one. */
export function takeGnuTable(
  pieces: SparsePiece[],
  block: Buffer,
  at: number,
  count: number,
  where: string,
): void {
  for (let i = 0; i < count; i++) {
    const entry = at + i * 24;
    if (block[entry] === 0) return;
    pushPiece(
      pieces,
      parseNumber(block, entry, 12, "sparse offset", where),
      parseNumber(block, entry + 12, 12, "sparse length", where),
      where,
    );
  }
}

/** Real size of an old GNU sparse file, and whether a further table block follows. */
export function gnuSparseTail(block: Buffer, where: string): { size: number; extended: boolean } {
  return { size: parseNumber(block, 483, 12, "sparse size", where), extended: block[482] !== 0 };
}

function pushPiece(pieces: SparsePiece[], offset: number, length: number, where: string): void {
  if (pieces.length >= MAX_SPARSE_PIECES) {
    throw new ImageError("LIMIT_EXCEEDED", `${where}: sparse file has more than ${MAX_SPARSE_PIECES} pieces`);
  }
  pieces.push({ offset, length });
}

/** What the `GNU.sparse.*` records of a PAX header say (formats 0.0, 0.1 and 1.0 of GNU tar). */
export interface PaxSparse {
  readonly name: string | undefined;
  readonly size: number;
  /** Undefined for 1.0, whose map stands in front of the data. */
  readonly pieces: SparsePiece[] | undefined;
}

/** Reads the `GNU.sparse.*` records of a PAX header. */
export function parsePaxSparse(records: readonly [string, string][], where: string): PaxSparse {
  let name: string | undefined;
  let size: number | undefined;
  let major: string | undefined;
  let minor: string | undefined;
  let count: number | undefined;
  let offset: number | undefined;
  let pieces: SparsePiece[] | undefined;
  for (const [key, value] of records) {
    switch (key) {
      case "name":
        name = value;
        break;
      case "size":
      case "realsize":
        size = decimalOf(`GNU.sparse.${key}`, value, where);
        break;
      case "major":
        major = value;
        break;
      case "minor":
        minor = value;
        break;
      case "numblocks":
        count = decimalOf("GNU.sparse.numblocks", value, where);
        break;
      case "offset":
        if (offset !== undefined) throw bad(where, "two offsets in a row");
        offset = decimalOf("GNU.sparse.offset", value, where);
        break;
      case "numbytes":
        if (offset === undefined) throw bad(where, "a length without an offset");
        pieces ??= [];
        pushPiece(pieces, offset, decimalOf("GNU.sparse.numbytes", value, where), where);
        offset = undefined;
        break;
      case "map": {
        if (pieces !== undefined) throw bad(where, "two maps");
        pieces = [];
        const numbers = value.split(",", MAX_SPARSE_PIECES * 2 + 2);
        if (numbers.length % 2 !== 0) throw bad(where, "a map with an odd count of numbers");
        for (let i = 0; i < numbers.length; i += 2) {
          const at = decimalOf("GNU.sparse.map", numbers[i] ?? "", where);
          pushPiece(pieces, at, decimalOf("GNU.sparse.map", numbers[i + 1] ?? "", where), where);
        }
        break;
      }
      default:
        throw bad(where, `unknown keyword GNU.sparse.${key.slice(0, 40)}`);
    }
  }
  if (offset !== undefined) throw bad(where, "an offset without a length");
  const version = `${major ?? "0"}.${minor ?? "0"}`;
  if (size === undefined) throw bad(where, "no size");
  if (version === "1.0") {
    if (pieces !== undefined) throw bad(where, "a map in the header of format 1.0");
    return { name, size, pieces: undefined };
  }
  if (major !== undefined && version !== "0.0" && version !== "0.1")
    throw bad(where, `format ${version.slice(0, 20)}`);
  if (count !== undefined && count !== (pieces?.length ?? 0))
    throw bad(where, "a count that is not its map's");
  return { name, size, pieces: pieces ?? [] };
}

function bad(where: string, what: string): ImageError {
  return new ImageError("TAR_MALFORMED", `${where}: sparse file with ${what}`);
}

/** How many lines the map in front of the data of format 1.0 has, by its first one. */
export function mapLines(text: string, where: string): number {
  const count = decimalOf("sparse map", text.slice(0, text.indexOf("\n")), where);
  if (count > MAX_SPARSE_PIECES) {
    throw new ImageError("LIMIT_EXCEEDED", `${where}: sparse file has more than ${MAX_SPARSE_PIECES} pieces`);
  }
  return count * 2 + 1;
}

/** Reads that map: a count, then offset and length of each piece, one decimal number a line. */
export function parseMap(text: string, where: string): SparsePiece[] {
  const lines = text.split("\n");
  const pieces: SparsePiece[] = [];
  for (let i = 1; i < mapLines(text, where); i += 2) {
    const offset = decimalOf("sparse map", lines[i] ?? "", where);
    pushPiece(pieces, offset, decimalOf("sparse map", lines[i + 1] ?? "", where), where);
  }
  return pieces;
}
