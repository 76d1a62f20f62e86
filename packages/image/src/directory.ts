import { constants } from "node:fs";
import { lstat, open, readdir, readlink } from "node:fs/promises";
import { ImageError } from "./errors.ts";
import {
  type FlattenLimits,
  MAX_COMPONENT_BYTES,
  MAX_DEPTH,
  MAX_DEVICE_MAJOR,
  MAX_PATH_BYTES,
} from "./limits.ts";
import { compareNames, nameBytes, type RawName, rawName, showName } from "./name.ts";
import { Inode, type LocalOrigin, type NodeType } from "./node.ts";
import { type FileIdentity, sameIdentity } from "./region.ts";
import { openXattrs } from "./xattr.ts";

const COPY_BYTES = 256 * 1024;

/**
 * Reads a directory as it stands into a file tree. Owner and times of a checkout are accidents, so
 * everything belongs to 0:0 and has the time 0; modes, symlinks, hard links, devices and the extended
 * attributes that say something about the file (`user.*`, `security.capability`) stay.
 */
export async function readDirectory(
  path: string,
  limits: FlattenLimits,
): Promise<{ root: Inode; notes: string[] }> {
  const xattrs = await openXattrs();
  const links = new Map<string, Inode>();
  const start = rawName(path);
  const top = await look(start);
  if (top.type !== "directory") throw new ImageError("SOURCE_UNSUPPORTED", `${path} is not a directory`);
  let entries = 0;
  let xattrBytes = 0;
  const todo: { at: RawName; inode: Inode; depth: number }[] = [];
  const root = await take(start, top);
  todo.push({ at: start, inode: root, depth: 0 });
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    const { at, inode: directory, depth } = next;
    for (const part of (await list(at)).sort(compareNames)) {
      const full = `${at}/${part}`;
      if (++entries > limits.entries) {
        throw new ImageError("LIMIT_EXCEEDED", `${path} has more than ${limits.entries} entries`);
      }
      if (
        depth >= MAX_DEPTH ||
        part.length > MAX_COMPONENT_BYTES ||
        full.length - start.length > MAX_PATH_BYTES
      ) {
        throw new ImageError("LIMIT_EXCEEDED", `${showName(full)} is too long or too deep`);
      }
      const seen = await look(full);
      const key = `${seen.identity.dev}:${seen.identity.ino}`;
      let inode = seen.links > 1 && seen.type !== "directory" ? links.get(key) : undefined;
      if (inode === undefined) {
        inode = await take(full, seen);
        if (seen.links > 1) links.set(key, inode);
        if (inode.type === "directory") todo.push({ at: full, inode, depth: depth + 1 });
      }
      directory.children?.set(part, { inode, given: 0, touched: 0 });
    }
  }
  return { root, notes: xattrs.notes };

  async function take(at: RawName, seen: Seen): Promise<Inode> {
    const inode = new Inode(seen.type, seen.type === "symlink" ? 0o777 : seen.mode, 0, 0, 0);
    inode.local = { path: at, identity: seen.identity };
    inode.major = seen.major;
    inode.minor = seen.minor;
    if (seen.type === "file") inode.size = Number(seen.identity.size);
    if (seen.type === "symlink") inode.target = await target(at);
    inode.xattrs = xattrs.read(at);
    for (const [key, value] of inode.xattrs ?? []) xattrBytes += key.length + value.length;
    if (xattrBytes > limits.xattrBytes) {
      throw new ImageError("LIMIT_EXCEEDED", `${path} has more than ${limits.xattrBytes} bytes of xattrs`);
    }
    return inode;
  }
}

interface Seen {
  readonly type: NodeType;
  readonly mode: number;
  readonly links: number;
  readonly major: number;
  readonly minor: number;
  readonly identity: FileIdentity;
}

async function look(at: RawName): Promise<Seen> {
  const stat = await failing(at, lstat(nameBytes(at), { bigint: true }));
  const { dev, ino, size, mtimeNs, ctimeNs } = stat;
  const rdev = Number(stat.rdev);
  const minor = (rdev & 0xff) | ((rdev >>> 12) & 0xfff00);
  const major = (rdev >>> 8) & MAX_DEVICE_MAJOR;
  const type = typeOf(at, Number(stat.mode) & constants.S_IFMT);
  const device = type === "char" || type === "block";
  return {
    type,
    mode: Number(stat.mode) & 0o7777,
    links: Number(stat.nlink),
    major: device ? major : 0,
    minor: device ? minor : 0,
    identity: { dev, ino, size, mtimeNs, ctimeNs },
  };
}

function typeOf(at: RawName, format: number): NodeType {
  switch (format) {
    case constants.S_IFREG:
      return "file";
    case constants.S_IFDIR:
      return "directory";
    case constants.S_IFLNK:
      return "symlink";
    case constants.S_IFCHR:
      return "char";
    case constants.S_IFBLK:
      return "block";
    case constants.S_IFIFO:
      return "fifo";
    default:
      throw new ImageError("ENTRY_REFUSED", `${showName(at)} is a socket, which an image cannot hold`, {
        hint: "Stop the program that listens on it, or leave it out of the directory.",
      });
  }
}

async function list(at: RawName): Promise<RawName[]> {
  return await failing(at, readdir(nameBytes(at), { encoding: "latin1" }));
}

async function target(at: RawName): Promise<RawName> {
  return await failing(at, readlink(nameBytes(at), { encoding: "latin1" }));
}

async function failing<T>(at: RawName, promise: Promise<T>): Promise<T> {
  try {
    return await promise;
  } catch (cause) {
    throw new ImageError("SOURCE_NOT_FOUND", `cannot read ${showName(at)}`, { cause });
  }
}

/** Hands a local file's content to `sink`, and refuses a file that is not what the first look saw. */
export async function copyLocal(
  origin: LocalOrigin,
  sink: (bytes: Buffer) => Promise<void> | undefined,
): Promise<void> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await failing(origin.path, open(nameBytes(origin.path), flags));
  try {
    if (!sameIdentity(origin.identity, await handle.stat({ bigint: true }))) throw changed(origin);
    const size = Number(origin.identity.size);
    const buffer = Buffer.allocUnsafe(Math.min(size, COPY_BYTES));
    for (let at = 0; at < size; ) {
      const { bytesRead } = await handle.read(buffer, 0, Math.min(buffer.length, size - at), at);
      if (bytesRead === 0) throw changed(origin);
      at += bytesRead;
      const wait = sink(buffer.subarray(0, bytesRead));
      if (wait !== undefined) await wait;
    }
    if (!sameIdentity(origin.identity, await handle.stat({ bigint: true }))) throw changed(origin);
  } finally {
    await handle.close();
  }
}

/** Refuses a local file or directory that is not in the state the first look saw. */
export async function refuseChanged(inode: Inode): Promise<void> {
  if (inode.local === undefined) return;
  const { identity } = await look(inode.local.path);
  if (!sameIdentity(identity, inode.local.identity)) throw changed(inode.local);
}

function changed(origin: LocalOrigin): ImageError {
  return new ImageError("SOURCE_CHANGED", `${showName(origin.path)} changed while it was being read`, {
    hint: "Run the command again when nothing writes to the directory.",
  });
}
