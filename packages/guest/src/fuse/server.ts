import { fsync, readSync, writeSync } from "node:fs";
import type { Duplex } from "node:stream";
import { ByteReader } from "@shelter/base";
import schema from "../../../../schema/agent-protocol.json" with { type: "json" };
import { errnoOf, FuseRefusal } from "./errno.ts";
import { type AttributeChange, Files } from "./files.ts";
import type { MountSource } from "./source.ts";
import {
  type FuseRequest,
  IN_HEADER,
  OP,
  OUT_HEADER,
  ReplyWriter,
  readHeader,
  readName,
  readTarget,
  writeAttrOut,
  writeEntry,
} from "./wire.ts";

/** Largest request: what the agent's own bound is. */
const MAX_REQUEST: number = schema.limits.maxFuseMessage;

/** Largest read and write: a quarter of a stream's window times four keeps round trips few and memory small. */
const MAX_TRANSFER = 256 * 1024;

const MAJOR = 7;
const MINOR = 31;
/** ASYNC_READ, BIG_WRITES, AUTO_INVAL_DATA, DO_READDIRPLUS, READDIRPLUS_AUTO, PARALLEL_DIROPS, MAX_PAGES. */
const FEATURES = (1 << 0) | (1 << 5) | (1 << 12) | (1 << 13) | (1 << 14) | (1 << 18) | (1 << 22);

/** Requests without an answer. */
const SILENT: ReadonlySet<number> = new Set([OP.forget, OP.batchForget, OP.interrupt]);

/**
 * Serves the files of a source over a mount's stream until it ends. Requests are answered in order; none is
 * read while answers are not taken, so a guest that only asks costs no memory.
 */
export function serveFiles(stream: Duplex, source: MountSource): void {
  const server = new FuseServer(source, (reply) => stream.write(reply));
  let parts: Buffer[] = [];
  let length = 0;
  const work = (): void => {
    while (length >= 4 && !stream.destroyed) {
      if (stream.writableNeedDrain) {
        stream.pause();
        return;
      }
      if ((parts[0] as Buffer).length < 4) parts = [Buffer.concat(parts, length)];
      const need = (parts[0] as Buffer).readUInt32LE(0);
      if (need < IN_HEADER || need > MAX_REQUEST) {
        stream.destroy(new Error(`a FUSE request of ${need} bytes`));
        return;
      }
      if (length < need) break;
      const all = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts, length);
      server.handle(all.subarray(4, need));
      parts = need === all.length ? [] : [all.subarray(need)];
      length -= need;
    }
    if (stream.isPaused()) stream.resume();
  };
  stream.on("data", (piece: Buffer) => {
    parts.push(piece);
    length += piece.length;
    work();
  });
  stream.on("drain", work);
  stream.on("end", () => stream.end());
  stream.on("error", () => {});
  stream.on("close", () => server.close());
}

/** Answers FUSE requests from the files of one source. */
export class FuseServer {
  readonly #files: Files;
  readonly #send: (reply: Buffer) => void;
  #ready = false;
  #closed = false;

  constructor(source: MountSource, send: (reply: Buffer) => void) {
    this.#files = new Files(source);
    this.#send = send;
  }

  /** Takes one request without its length field. */
  handle(request: Uint8Array): void {
    const reader = new ByteReader(request, "a FUSE request");
    const header = readHeader(reader);
    try {
      if (!this.#ready && header.opcode !== OP.init) throw new FuseRefusal("EIO");
      const reply = this.#operate(header, reader);
      if (reply === "later" || SILENT.has(header.opcode)) return;
      this.#reply(header.unique, 0, reply ?? EMPTY);
    } catch (error) {
      if (!SILENT.has(header.opcode)) this.#reply(header.unique, errnoOf(error), EMPTY);
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#files.close();
  }

  #reply(unique: bigint, errno: number, body: Uint8Array): void {
    if (this.#closed) return;
    const reply = Buffer.allocUnsafe(OUT_HEADER + body.byteLength);
    reply.writeUInt32LE(reply.length, 0);
    reply.writeInt32LE(-errno, 4);
    reply.writeBigUInt64LE(unique, 8);
    reply.set(body, OUT_HEADER);
    this.#send(reply);
  }

  #operate(header: FuseRequest, reader: ByteReader): Uint8Array | "later" | undefined {
    const files = this.#files;
    const nodes = files.source.nodes;
    if (header.opcode === OP.init) return this.#init(reader);
    if (header.opcode === OP.forget) return void nodes.forget(header.node, reader.u64le());
    if (header.opcode === OP.batchForget) return this.#batchForget(reader);
    if (header.opcode === OP.interrupt || header.opcode === OP.destroy) return undefined;
    if (header.opcode === OP.statfs) return this.#statfs();
    const node = nodes.get(header.node);
    switch (header.opcode) {
      case OP.lookup:
        return entry(files.lookup(node, readName(reader)));
      case OP.getattr: {
        const flags = reader.u32le();
        reader.skip(4);
        return attributes(files.getattr(node, (flags & 1) !== 0 ? reader.u64le() : undefined));
      }
      case OP.setattr:
        return attributes(files.setattr(node, readChange(reader)));
      case OP.readlink:
        return files.readlink(node);
      case OP.symlink: {
        const name = readName(reader);
        return entry(files.symlink(node, name, readTarget(reader)));
      }
      case OP.mknod: {
        const mode = reader.u32le();
        reader.skip(12);
        return entry(files.makeFile(node, readName(reader), mode, header));
      }
      case OP.mkdir: {
        const mode = reader.u32le();
        reader.skip(4);
        return entry(files.mkdir(node, readName(reader), mode, header));
      }
      case OP.unlink:
        return void files.unlink(node, readName(reader));
      case OP.rmdir:
        return void files.rmdir(node, readName(reader));
      case OP.rename:
      case OP.rename2: {
        const target = nodes.get(reader.u64le());
        const flags = header.opcode === OP.rename2 ? reader.u32le() : 0;
        if (header.opcode === OP.rename2) reader.skip(4);
        if ((flags & ~RENAME_NOREPLACE) !== 0) throw new FuseRefusal("EINVAL");
        const name = readName(reader);
        return void files.rename(node, name, target, readName(reader), flags === RENAME_NOREPLACE);
      }
      case OP.link: {
        const old = nodes.get(reader.u64le());
        return entry(files.link(old, node, readName(reader)));
      }
      case OP.open:
        return opened(files.open(node, reader.u32le()));
      case OP.create: {
        const flags = reader.u32le();
        const mode = reader.u32le();
        reader.skip(8);
        const made = files.create(node, readName(reader), flags, mode, header);
        return writeEntry(new ReplyWriter(), made.node.id, made.stat).u64(made.handle).u32(0, 0).finish();
      }
      case OP.read:
        return this.#read(reader);
      case OP.write:
        return this.#write(reader);
      case OP.flush:
      case OP.fsyncdir:
        return undefined;
      case OP.fsync:
        return this.#fsync(header, reader);
      case OP.release:
        return void files.release(reader.u64le());
      case OP.opendir:
        return opened(files.opendir(node));
      case OP.releasedir:
        return void files.releasedir(reader.u64le());
      case OP.readdir:
        return this.#readdir(reader, null);
      case OP.readdirplus:
        return this.#readdir(reader, header.node);
      default:
        throw new FuseRefusal("ENOSYS");
    }
  }

  #init(reader: ByteReader): Uint8Array {
    const major = reader.u32le();
    const minor = reader.u32le();
    const readahead = reader.u32le();
    const offered = reader.u32le();
    if (major !== MAJOR || minor < 23) throw new FuseRefusal("EIO");
    this.#ready = true;
    const w = new ReplyWriter().u32(MAJOR, Math.min(minor, MINOR), Math.min(readahead, MAX_TRANSFER));
    w.u32(offered & FEATURES);
    w.bytes(Buffer.from(Uint16Array.of(16, 12).buffer)); // background requests, and when they count as congestion
    w.u32(MAX_TRANSFER, 1); // largest write, time granularity in ns
    w.bytes(Buffer.from(Uint16Array.of(MAX_TRANSFER / 4096, 0).buffer));
    return w.u32(0, 0, 0, 0, 0, 0, 0, 0).finish();
  }

  #batchForget(reader: ByteReader): undefined {
    const count = reader.u32le();
    reader.skip(4);
    for (let i = 0; i < count && reader.remaining >= 16; i++) {
      this.#files.source.nodes.forget(reader.u64le(), reader.u64le());
    }
  }

  #read(reader: ByteReader): Uint8Array {
    const handle = reader.u64le();
    const offset = reader.u64le();
    const size = Math.min(reader.u32le(), MAX_TRANSFER);
    const buffer = Buffer.allocUnsafe(size);
    const fd = this.#files.descriptor(handle);
    // node:fs may read less than asked for; to the guest's kernel a short answer means the end of the file.
    let have = 0;
    while (have < size) {
      const got = readSync(fd, buffer, have, size - have, position(offset + BigInt(have)));
      if (got === 0) break;
      have += got;
    }
    return buffer.subarray(0, have);
  }

  #write(reader: ByteReader): Uint8Array {
    const handle = reader.u64le();
    const offset = reader.u64le();
    const size = reader.u32le();
    reader.skip(20);
    const data = reader.take(size);
    const fd = this.#files.writeDescriptor(handle);
    let done = 0;
    while (done < size)
      done += writeSync(fd, data, done, size - done, Number(position(offset + BigInt(done))));
    return new ReplyWriter().u32(done, 0).finish();
  }

  #fsync(header: FuseRequest, reader: ByteReader): "later" {
    fsync(this.#files.descriptor(reader.u64le()), (error) => {
      this.#reply(header.unique, error === null ? 0 : errnoOf(error), EMPTY);
    });
    return "later";
  }

  /** With `plus`, the number of the directory whose entries are looked up on the way. */
  #readdir(reader: ByteReader, plus: bigint | null): Uint8Array {
    const entries = this.#files.entries(reader.u64le());
    const from = Number(reader.u64le());
    const size = Math.min(reader.u32le(), MAX_TRANSFER);
    const w = new ReplyWriter();
    const parent = plus === null ? null : this.#files.source.nodes.get(plus);
    for (let i = from; i < entries.length; i++) {
      const e = entries[i];
      if (e === undefined) break;
      const padded = (24 + e.name.length + 7) & ~7;
      if (w.length + padded + (parent === null ? 0 : 128) > size) break;
      let ino = 1n;
      if (parent !== null) {
        let found: ReturnType<Files["lookup"]>;
        try {
          found = this.#files.lookup(parent, e.name);
        } catch {
          continue; // removed since the directory was opened
        }
        writeEntry(w, found.node.id, found.stat);
        ino = found.stat.ino;
      }
      w.u64(ino, i + 1).u32(e.name.length, e.type);
      w.bytes(Buffer.from(e.name, "latin1")).bytes(Buffer.alloc(padded - 24 - e.name.length));
    }
    return w.finish();
  }

  #statfs(): Uint8Array {
    const s = this.#files.statfs();
    return new ReplyWriter()
      .u64(s.blocks, s.bfree, s.bavail, s.files, s.ffree)
      .u32(s.bsize, 255, s.bsize, 0, 0, 0, 0, 0, 0, 0)
      .finish();
  }
}

const EMPTY = new Uint8Array();
const RENAME_NOREPLACE = 1;

const SET = {
  mode: 1,
  uid: 2,
  gid: 4,
  size: 8,
  atime: 16,
  mtime: 32,
  handle: 64,
  atimeNow: 128,
  mtimeNow: 256,
};

function readChange(reader: ByteReader): AttributeChange {
  const valid = reader.u32le();
  reader.skip(4);
  const handle = reader.u64le();
  const size = reader.u64le();
  reader.skip(8);
  const atime = reader.u64le();
  const mtime = reader.u64le();
  reader.skip(8);
  const atimeNs = reader.u32le();
  const mtimeNs = reader.u32le();
  reader.skip(4);
  const mode = reader.u32le();
  reader.skip(4);
  const uid = reader.u32le();
  const gid = reader.u32le();
  const has = (bit: number): boolean => (valid & bit) !== 0;
  const time = (s: bigint, ns: number): number => Number(BigInt.asIntN(64, s)) + ns / 1e9;
  return {
    ...(has(SET.mode) ? { mode } : {}),
    ...(has(SET.uid) ? { uid } : {}),
    ...(has(SET.gid) ? { gid } : {}),
    ...(has(SET.size) ? { size: Number(position(size)) } : {}),
    ...(has(SET.atime) ? { atime: has(SET.atimeNow) ? ("now" as const) : time(atime, atimeNs) } : {}),
    ...(has(SET.mtime) ? { mtime: has(SET.mtimeNow) ? ("now" as const) : time(mtime, mtimeNs) } : {}),
    ...(has(SET.handle) ? { handle } : {}),
  };
}

/** A file position Node can hold exactly. */
function position(offset: bigint): number {
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) throw new FuseRefusal("EINVAL");
  return Number(offset);
}

function entry(found: { node: { id: bigint }; stat: import("node:fs").BigIntStats }): Buffer {
  return writeEntry(new ReplyWriter(), found.node.id, found.stat).finish();
}

function attributes(stat: import("node:fs").BigIntStats): Buffer {
  return writeAttrOut(new ReplyWriter(), stat).finish();
}

function opened(handle: bigint): Buffer {
  return new ReplyWriter().u64(handle).u32(0, 0).finish();
}
