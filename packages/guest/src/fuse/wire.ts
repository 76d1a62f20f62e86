import type { BigIntStats } from "node:fs";
import type { ByteReader } from "@shelter/base";
import { FuseRefusal } from "./errno.ts";

/** Operations of FUSE 7.31 that the server knows (`enum fuse_opcode`, linux/fuse.h). */
export const OP = {
  lookup: 1,
  forget: 2,
  getattr: 3,
  setattr: 4,
  readlink: 5,
  symlink: 6,
  mknod: 8,
  mkdir: 9,
  unlink: 10,
  rmdir: 11,
  rename: 12,
  link: 13,
  open: 14,
  read: 15,
  write: 16,
  statfs: 17,
  release: 18,
  fsync: 20,
  flush: 25,
  init: 26,
  opendir: 27,
  readdir: 28,
  releasedir: 29,
  fsyncdir: 30,
  create: 35,
  interrupt: 36,
  destroy: 38,
  batchForget: 42,
  readdirplus: 44,
  rename2: 45,
} as const;

/** `struct fuse_in_header`. */
export interface FuseRequest {
  readonly opcode: number;
  readonly unique: bigint;
  readonly node: bigint;
  readonly uid: number;
  readonly gid: number;
}

/** Bytes of `struct fuse_in_header` and `struct fuse_out_header`. */
export const IN_HEADER = 40;
/** Bytes of `struct fuse_out_header`. */
export const OUT_HEADER = 16;

/** Seconds the guest may believe a name or attributes without asking again. */
const VALID_SECONDS = 1n;

/** Reads what follows the length of a request's header. */
export function readHeader(reader: ByteReader): FuseRequest {
  const opcode = reader.u32le();
  const unique = reader.u64le();
  const node = reader.u64le();
  const uid = reader.u32le();
  const gid = reader.u32le();
  reader.skip(8); // pid, extension length: nothing here depends on either
  return { opcode, unique, node, uid, gid };
}

/** One file name: up to its NUL, no slash, neither `.` nor `..`; latin1 holds its bytes. */
export function readName(reader: ByteReader): string {
  const start = reader.offset;
  const end = reader.bytes.indexOf(0, start);
  if (end < 0) throw new FuseRefusal("EINVAL");
  const name = Buffer.from(reader.take(end - start)).toString("latin1");
  reader.skip(1);
  if (name === "" || name === "." || name === ".." || name.includes("/")) throw new FuseRefusal("EINVAL");
  if (name.length > 255) throw new FuseRefusal("ENAMETOOLONG");
  return name;
}

/** The bytes of a link's target: anything without a NUL; only the guest ever resolves it. */
export function readTarget(reader: ByteReader): Buffer {
  const start = reader.offset;
  const end = reader.bytes.indexOf(0, start);
  if (end < 0 || end === start) throw new FuseRefusal("EINVAL");
  if (end - start > 4095) throw new FuseRefusal("ENAMETOOLONG");
  return Buffer.from(reader.take(end - start));
}

/** Little-endian writer for replies of known shape. */
export class ReplyWriter {
  readonly #parts: Buffer[] = [];
  #length = 0;

  get length(): number {
    return this.#length;
  }

  u32(...values: (number | bigint)[]): this {
    const part = Buffer.allocUnsafe(values.length * 4);
    for (const [i, v] of values.entries()) part.writeUInt32LE(Number(BigInt.asUintN(32, BigInt(v))), i * 4);
    return this.bytes(part);
  }

  u64(...values: (number | bigint)[]): this {
    const part = Buffer.allocUnsafe(values.length * 8);
    for (const [i, v] of values.entries()) part.writeBigUInt64LE(BigInt.asUintN(64, BigInt(v)), i * 8);
    return this.bytes(part);
  }

  bytes(part: Uint8Array): this {
    this.#parts.push(Buffer.from(part.buffer, part.byteOffset, part.byteLength));
    this.#length += part.byteLength;
    return this;
  }

  finish(): Buffer {
    return Buffer.concat(this.#parts, this.#length);
  }
}

/** `struct fuse_attr`: 88 bytes. */
export function writeAttr(w: ReplyWriter, s: BigIntStats): ReplyWriter {
  return w
    .u64(s.ino, s.size, s.blocks, s.atimeNs / NS, s.mtimeNs / NS, s.ctimeNs / NS)
    .u32(s.atimeNs % NS, s.mtimeNs % NS, s.ctimeNs % NS, s.mode, s.nlink, s.uid, s.gid, 0, s.blksize, 0);
}

const NS = 1_000_000_000n;

/** `struct fuse_attr_out`. */
export function writeAttrOut(w: ReplyWriter, s: BigIntStats): ReplyWriter {
  return writeAttr(w.u64(VALID_SECONDS).u32(0, 0), s);
}

/** `struct fuse_entry_out`: 128 bytes. */
export function writeEntry(w: ReplyWriter, node: bigint, s: BigIntStats): ReplyWriter {
  return writeAttr(w.u64(node, 0, VALID_SECONDS, VALID_SECONDS).u32(0, 0), s);
}
