import { ImageError } from "../errors.ts";
import { MAX_XATTR_NAME_BYTES, MAX_XATTR_VALUE_BYTES } from "../limits.ts";
import { type RawName, showName } from "../name.ts";

/** Extended attributes by raw name; values are bytes. */
export type Xattrs = ReadonlyMap<RawName, Buffer>;

/** What a PAX header says about the entry behind it; undefined where it says nothing. */
export interface PaxRecords {
  path?: RawName;
  linkPath?: RawName;
  size?: number;
  uid?: number;
  gid?: number;
  mtime?: number;
  xattrs?: Map<RawName, Buffer>;
  /** `GNU.sparse.*` in their order, as 0.0 repeats its keys. */
  sparse?: [key: string, value: string][];
}

const XATTR = "SCHILY.xattr.";
const SPARSE = "GNU.sparse.";

/**
 * Parses the body of a PAX extended header (POSIX.1-2001 pax, "pax Extended Header"). Unknown keywords are
 * passed over, as containerd does; so are `LIBARCHIVE.xattr.` and `SCHILY.acl.`, which it does not apply
 * either. An empty value leaves the header's own field in force.
 */
export function parsePax(body: Buffer, where: string): PaxRecords {
  const records: PaxRecords = {};
  let at = 0;
  while (at < body.length) {
    const space = body.indexOf(0x20, at);
    const digits = space === -1 ? "" : body.toString("latin1", at, Math.min(space, at + 12));
    const length = /^[0-9]{1,9}$/.test(digits) ? Number(digits) : 0;
    const end = at + length;
    if (space === -1 || length < space - at + 4 || end > body.length || body[end - 1] !== 0x0a) {
      throw new ImageError("TAR_MALFORMED", `${where}: PAX record at byte ${at} is malformed`);
    }
    const equals = body.indexOf(0x3d, space);
    if (equals <= space + 1 || equals >= end) {
      throw new ImageError("TAR_MALFORMED", `${where}: PAX record at byte ${at} has no key`);
    }
    take(records, body.toString("latin1", space + 1, equals), body.subarray(equals + 1, end - 1), where);
    at = end;
  }
  return records;
}

function take(records: PaxRecords, key: string, value: Buffer, where: string): void {
  if (key.startsWith(XATTR)) {
    takeXattr(records, key.slice(XATTR.length), value, where);
    return;
  }
  if (value.length === 0) return;
  switch (key) {
    case "path":
      records.path = textOf(key, value, where);
      return;
    case "linkpath":
      records.linkPath = textOf(key, value, where);
      return;
    case "size":
    case "uid":
    case "gid":
      records[key] = decimalOf(key, value.toString("latin1"), where);
      return;
    case "mtime":
      records.mtime = secondsOf(value.toString("latin1"), where);
      return;
    default:
      if (key.startsWith(SPARSE)) {
        records.sparse ??= [];
        records.sparse.push([key.slice(SPARSE.length), value.toString("latin1")]);
      }
  }
}

function takeXattr(records: PaxRecords, name: string, value: Buffer, where: string): void {
  if (name === "" || name.includes("\0") || name.length > MAX_XATTR_NAME_BYTES) {
    throw new ImageError(
      "TAR_MALFORMED",
      `${where}: xattr name ${showName(name)} is empty, too long or has a NUL`,
    );
  }
  if (value.length > MAX_XATTR_VALUE_BYTES) {
    throw new ImageError(
      "LIMIT_EXCEEDED",
      `${where}: xattr ${showName(name)} has ${value.length} bytes, at most ${MAX_XATTR_VALUE_BYTES} can be stored`,
    );
  }
  records.xattrs ??= new Map();
  records.xattrs.set(name, Buffer.from(value)); // a copy: the body's buffer is reused
}

function textOf(key: string, value: Buffer, where: string): RawName {
  const text = value.toString("latin1");
  if (text.includes("\0")) throw new ImageError("TAR_MALFORMED", `${where}: PAX ${key} has a NUL`);
  return text;
}

/** A decimal number without sign that fits a safe integer. */
export function decimalOf(key: string, text: string, where: string): number {
  const value = /^[0-9]{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!Number.isSafeInteger(value)) {
    throw new ImageError(
      "TAR_MALFORMED",
      `${where}: PAX ${key} ${JSON.stringify(text.slice(0, 40))} is no size or id`,
    );
  }
  return value;
}

/** Whole seconds, rounded down, of a decimal time such as `-1.5`. */
function secondsOf(text: string, where: string): number {
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(text);
  if (match === null) {
    throw new ImageError(
      "TAR_MALFORMED",
      `${where}: PAX mtime ${JSON.stringify(text.slice(0, 40))} is no time`,
    );
  }
  const whole = Number(match[2]);
  if (match[1] !== "-") return whole;
  return /[1-9]/.test(match[3] ?? "") ? -whole - 1 : -whole;
}
