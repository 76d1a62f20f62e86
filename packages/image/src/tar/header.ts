import { ImageError } from "../errors.ts";
import type { RawName } from "../name.ts";

/** Size of a tar block; headers are one block, data is padded to whole blocks. */
export const BLOCK = 512;

/** Bytes up to the next block boundary. */
export function paddingOf(size: number): number {
  return (BLOCK - (size % BLOCK)) % BLOCK;
}

/** The fields of one header block as it stands (POSIX.1-1988 ustar, GNU tar, v7), before PAX or GNU extensions. */
export interface RawHeader {
  readonly type: string;
  readonly name: RawName;
  readonly linkName: RawName;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly mtime: number;
  readonly major: number;
  readonly minor: number;
  /** GNU magic: the bytes from 345 hold times and a sparse map instead of a name prefix. */
  readonly gnu: boolean;
}

/** Whether a block is all zero. */
export function isZeroBlock(block: Buffer): boolean {
  for (let i = 0; i < BLOCK; i++) if (block[i] !== 0) return false;
  return true;
}

/** Parses a header block that is not all zero; `where` names the archive and the offset in errors. */
export function parseHeader(block: Buffer, where: string): RawHeader {
  verifyChecksum(block, where);
  const magic = block.toString("latin1", 257, 265);
  const gnu = magic === "ustar  \0";
  const ustar = magic.startsWith("ustar\0");
  let name = cString(block, 0, 100);
  if (ustar) {
    // star writes its own tail behind a shorter prefix
    const star = block.toString("latin1", 508, 512) === "tar\0";
    const prefix = cString(block, 345, star ? 131 : 155);
    if (prefix !== "") name = `${prefix}/${name}`;
  }
  const devices = gnu || ustar;
  return {
    type: block.toString("latin1", 156, 157),
    name,
    linkName: cString(block, 157, 100),
    mode: parseNumber(block, 100, 8, "mode", where),
    uid: parseNumber(block, 108, 8, "uid", where),
    gid: parseNumber(block, 116, 8, "gid", where),
    size: parseNumber(block, 124, 12, "size", where),
    mtime: parseNumber(block, 136, 12, "mtime", where),
    major: devices ? parseNumber(block, 329, 8, "device major", where) : 0,
    minor: devices ? parseNumber(block, 337, 8, "device minor", where) : 0,
    gnu,
  };
}

function verifyChecksum(block: Buffer, where: string): void {
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK; i++) {
    const byte = i >= 148 && i < 156 ? 0x20 : (block[i] ?? 0);
    unsigned += byte;
    signed += byte < 128 ? byte : byte - 256; // some old tars summed signed characters
  }
  const found = parseNumber(block, 148, 8, "checksum", where);
  if (found !== unsigned && found !== signed) {
    throw new ImageError("TAR_MALFORMED", `${where}: header checksum is ${found}, expected ${unsigned}`);
  }
}

/** Text up to the first NUL or the end of its field. */
export function cString(block: Buffer, at: number, length: number): RawName {
  const nul = block.indexOf(0, at);
  return block.toString("latin1", at, nul === -1 || nul > at + length ? at + length : nul);
}

/** An octal field, or GNU's base-256 form (first bit set, two's complement, big-endian). */
export function parseNumber(block: Buffer, at: number, length: number, field: string, where: string): number {
  const first = block[at] ?? 0;
  if (first >= 0x80) return parseBase256(block, at, length, field, where);
  let i = at;
  const end = at + length;
  while (i < end && (block[i] === 0x20 || block[i] === 0)) i++;
  let value = 0;
  for (; i < end; i++) {
    const digit = (block[i] ?? 0) - 0x30;
    if (digit < 0 || digit > 7) break;
    value = value * 8 + digit;
  }
  for (; i < end; i++) {
    if (block[i] !== 0x20 && block[i] !== 0) {
      const shown = JSON.stringify(block.toString("latin1", at, end));
      throw new ImageError("TAR_MALFORMED", `${where}: ${field} ${shown} is not an octal number`);
    }
  }
  return value;
}

function parseBase256(block: Buffer, at: number, length: number, field: string, where: string): number {
  const negative = ((block[at] ?? 0) & 0x40) !== 0;
  let value = negative ? -1n : 0n;
  for (let i = 0; i < length; i++) {
    const byte = i === 0 ? ((block[at] ?? 0) & 0x3f) | (negative ? 0xc0 : 0) : (block[at + i] ?? 0);
    value = (value << 8n) | BigInt(byte);
  }
  if (negative) value = BigInt.asIntN(length * 8, value);
  const number = Number(value);
  if (!Number.isSafeInteger(number)) {
    throw new ImageError("TAR_MALFORMED", `${where}: ${field} ${value} is out of range`);
  }
  return number;
}
