import {
  type BigIntStats,
  chmodSync,
  chownSync,
  closeSync,
  constants,
  fchmodSync,
  fchownSync,
  fstatSync,
  ftruncateSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmdirSync,
  statfsSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
} from "node:fs";
import { FuseRefusal } from "./errno.ts";
import type { FuseNode } from "./nodes.ts";
import type { MountSource } from "./source.ts";

/** Files and directories the guest may hold open at once. */
const MAX_HANDLES = 2048;

/** Set-user-id, set-group-id and devices are the host's to make: a guest could plant what a host user then runs. */
const FILE_MODE = 0o777;
const DIRECTORY_MODE = 0o1777;

/** Who asks, for the owner of what is made. */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
}

/** One entry of an open directory. */
export interface DirectoryEntry {
  readonly name: string;
  /** `DT_*` of dirent(5). */
  readonly type: number;
}

/** What `setattr` may change; undefined stays. */
export interface AttributeChange {
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
  readonly size?: number;
  /** Seconds, or "now". */
  readonly atime?: number | "now";
  readonly mtime?: number | "now";
  readonly handle?: bigint;
}

interface OpenFile {
  readonly node: FuseNode;
  readonly fd: number;
}

/** The files of one mount source as the guest works on them. Every call is one FUSE operation and throws what fails. */
export class Files {
  readonly source: MountSource;
  readonly #files = new Map<bigint, OpenFile>();
  readonly #directories = new Map<bigint, DirectoryEntry[]>();
  #nextHandle = 1n;

  constructor(source: MountSource) {
    this.source = source;
  }

  lookup(parent: FuseNode, name: string): { node: FuseNode; stat: BigIntStats } {
    const stat = lstatSync(this.source.child(parent, name), { bigint: true });
    return { node: this.source.nodes.remember(parent, name, stat.dev, stat.ino), stat };
  }

  getattr(node: FuseNode, handle: bigint | undefined): BigIntStats {
    const open = handle === undefined ? undefined : this.#files.get(handle);
    return open === undefined ? this.source.stat(node) : fstatSync(open.fd, { bigint: true });
  }

  setattr(node: FuseNode, change: AttributeChange): BigIntStats {
    this.#writable();
    const before = this.getattr(node, change.handle);
    this.source.withInode(node, (path) => {
      if (change.size !== undefined) {
        if (!before.isFile()) throw new FuseRefusal("EINVAL");
        const open = change.handle === undefined ? undefined : this.#files.get(change.handle);
        if (open === undefined) truncateSync(path, change.size);
        else ftruncateSync(open.fd, change.size);
      }
      if (change.mode !== undefined) {
        chmodSync(path, change.mode & (before.isDirectory() ? DIRECTORY_MODE : FILE_MODE));
      }
      if (change.uid !== undefined || change.gid !== undefined) {
        chownSync(path, change.uid ?? Number(before.uid), change.gid ?? Number(before.gid));
      }
      if (change.atime !== undefined || change.mtime !== undefined) {
        const now = Date.now() / 1000;
        const time = (wanted: number | "now" | undefined, old: bigint): number =>
          wanted === "now" ? now : (wanted ?? Number(old) / 1e9);
        // A link's own times cannot be set through its descriptor; nobody misses them.
        if (!before.isSymbolicLink()) {
          utimesSync(path, time(change.atime, before.atimeNs), time(change.mtime, before.mtimeNs));
        }
      }
    });
    return this.getattr(node, change.handle);
  }

  readlink(node: FuseNode): Buffer {
    return readlinkSync(this.source.path(node), { encoding: "buffer" });
  }

  symlink(parent: FuseNode, name: string, target: Buffer): { node: FuseNode; stat: BigIntStats } {
    this.#writable();
    symlinkSync(target, this.source.child(parent, name));
    return this.lookup(parent, name);
  }

  mkdir(parent: FuseNode, name: string, mode: number, caller: Caller): { node: FuseNode; stat: BigIntStats } {
    this.#writable();
    mkdirSync(this.source.child(parent, name), { mode: 0o700 });
    const fd = openSync(
      this.source.child(parent, name),
      constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW,
    );
    try {
      this.#own(fd, caller);
      fchmodSync(fd, mode & DIRECTORY_MODE);
    } finally {
      closeSync(fd);
    }
    return this.lookup(parent, name);
  }

  /** An empty regular file, as `mknod` makes one. */
  makeFile(
    parent: FuseNode,
    name: string,
    mode: number,
    caller: Caller,
  ): { node: FuseNode; stat: BigIntStats } {
    this.#writable();
    if ((mode & constants.S_IFMT) !== constants.S_IFREG) throw new FuseRefusal("EPERM");
    const fd = this.#createNew(parent, name, constants.O_WRONLY, mode, caller);
    closeSync(fd);
    return this.lookup(parent, name);
  }

  unlink(parent: FuseNode, name: string): void {
    this.#writable();
    unlinkSync(this.source.child(parent, name));
    this.source.nodes.detach(parent, name);
  }

  rmdir(parent: FuseNode, name: string): void {
    this.#writable();
    rmdirSync(this.source.child(parent, name));
    this.source.nodes.detach(parent, name);
  }

  rename(parent: FuseNode, name: string, newParent: FuseNode, newName: string, noReplace: boolean): void {
    this.#writable();
    // A descriptor of its own: opening the second directory may close the first one's in the cache.
    const from = openSync(`/proc/self/fd/${this.source.directory(parent)}`, O_PATH | constants.O_DIRECTORY);
    try {
      const to = this.source.child(newParent, newName);
      if (noReplace && lstatSync(to, { throwIfNoEntry: false }) !== undefined)
        throw new FuseRefusal("EEXIST");
      renameSync(Buffer.from(`/proc/self/fd/${from}/${name}`, "latin1"), to);
    } finally {
      closeSync(from);
    }
    this.source.nodes.move(parent, name, newParent, newName);
  }

  link(node: FuseNode, newParent: FuseNode, newName: string): { node: FuseNode; stat: BigIntStats } {
    this.#writable();
    if (node.parent === null) throw new FuseRefusal("EPERM");
    const from = openSync(
      `/proc/self/fd/${this.source.directory(node.parent)}`,
      O_PATH | constants.O_DIRECTORY,
    );
    try {
      linkSync(
        Buffer.from(`/proc/self/fd/${from}/${node.name}`, "latin1"),
        this.source.child(newParent, newName),
      );
    } finally {
      closeSync(from);
    }
    return this.lookup(newParent, newName);
  }

  open(node: FuseNode, flags: number): bigint {
    const access = flags & O_ACCMODE;
    if (access !== constants.O_RDONLY || (flags & constants.O_TRUNC) !== 0) this.#writable();
    // Looked at first: opening a device or a FIFO of the host can do something before it is refused.
    if (!this.source.stat(node).isFile()) throw new FuseRefusal("EACCES");
    const fd =
      node === this.source.nodes.root
        ? this.source.withInode(node, (path) => openSync(path, access | (SAFE & ~constants.O_NOFOLLOW)))
        : openSync(this.source.path(node), access | (flags & constants.O_TRUNC) | SAFE);
    return this.#keep(node, regular(fd));
  }

  create(
    parent: FuseNode,
    name: string,
    flags: number,
    mode: number,
    caller: Caller,
  ): { node: FuseNode; stat: BigIntStats; handle: bigint } {
    this.#writable();
    const access = flags & O_ACCMODE;
    let fd: number;
    try {
      fd = this.#createNew(parent, name, access, mode, caller);
    } catch (error) {
      if ((error as { code?: string }).code !== "EEXIST" || (flags & constants.O_EXCL) !== 0) throw error;
      const { node, stat } = this.lookup(parent, name);
      try {
        return { node, stat, handle: this.open(node, flags) };
      } catch (refusal) {
        this.source.nodes.forget(node.id, 1n);
        throw refusal;
      }
    }
    try {
      const { node, stat } = this.lookup(parent, name);
      return { node, stat, handle: this.#keep(node, fd) };
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Descriptor behind a handle. */
  descriptor(handle: bigint): number {
    const open = this.#files.get(handle);
    if (open === undefined) throw new FuseRefusal("EBADF");
    return open.fd;
  }

  /** Descriptor to write to, refused on a read-only mount whatever the handle says. */
  writeDescriptor(handle: bigint): number {
    this.#writable();
    return this.descriptor(handle);
  }

  release(handle: bigint): void {
    const open = this.#files.get(handle);
    if (open === undefined) return;
    this.#files.delete(handle);
    open.node.handles.delete(open.fd);
    closeSync(open.fd);
  }

  opendir(node: FuseNode): bigint {
    this.#room();
    const fd = this.source.directory(node);
    const entries = readdirSync(`/proc/self/fd/${fd}`, { withFileTypes: true, encoding: "buffer" });
    const handle = this.#nextHandle++;
    this.#directories.set(
      handle,
      entries.map((e) => ({
        name: e.name.toString("latin1"),
        type: e.isDirectory() ? 4 : e.isFile() ? 8 : e.isSymbolicLink() ? 10 : 0,
      })),
    );
    return handle;
  }

  entries(handle: bigint): readonly DirectoryEntry[] {
    const entries = this.#directories.get(handle);
    if (entries === undefined) throw new FuseRefusal("EBADF");
    return entries;
  }

  releasedir(handle: bigint): void {
    this.#directories.delete(handle);
  }

  statfs(): import("node:fs").BigIntStatsFs {
    return this.source.withInode(this.source.nodes.root, (path) => statfsSync(path, { bigint: true }));
  }

  /** Closes everything the guest left open. */
  close(): void {
    for (const handle of [...this.#files.keys()]) this.release(handle);
    this.#directories.clear();
  }

  #createNew(parent: FuseNode, name: string, access: number, mode: number, caller: Caller): number {
    this.#room();
    const fd = openSync(
      this.source.child(parent, name),
      access | constants.O_CREAT | constants.O_EXCL | SAFE,
      0o600,
    );
    try {
      this.#own(fd, caller);
      fchmodSync(fd, mode & FILE_MODE);
      return fd;
    } catch (error) {
      closeSync(fd);
      throw error;
    }
  }

  /** Root can give what is made to whoever made it; an ordinary user owns it, as with any program of theirs. */
  #own(fd: number, caller: Caller): void {
    if (process.geteuid?.() === 0) fchownSync(fd, caller.uid, caller.gid);
  }

  #keep(node: FuseNode, fd: number): bigint {
    try {
      this.#room();
    } catch (error) {
      closeSync(fd);
      throw error;
    }
    const handle = this.#nextHandle++;
    this.#files.set(handle, { node, fd });
    node.handles.add(fd);
    return handle;
  }

  #room(): void {
    if (this.#files.size + this.#directories.size >= MAX_HANDLES) throw new FuseRefusal("EMFILE");
  }

  #writable(): void {
    if (this.source.readOnly) throw new FuseRefusal("EROFS");
  }
}

// Both are missing from node:fs (asm-generic/fcntl.h).
const O_PATH = 0o10000000;
const O_ACCMODE = 3;
const SAFE = constants.O_NOFOLLOW | constants.O_NONBLOCK | constants.O_NOCTTY;

function regular(fd: number): number {
  if (fstatSync(fd).isFile()) return fd;
  closeSync(fd);
  throw new FuseRefusal("EACCES");
}
