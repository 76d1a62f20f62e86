import { closeSync, constants, fstatSync, lstatSync, openSync } from "node:fs";
import { GuestError } from "../errors.ts";
import { FuseRefusal } from "./errno.ts";
import { type FuseNode, NodeTable } from "./nodes.ts";

// `O_PATH` is missing from node:fs; its value is the same on x86, arm64 and riscv (asm-generic/fcntl.h).
const O_PATH = 0o10000000;

/** Directory descriptors kept open for the paths in use. */
const MAX_DIRECTORIES = 128;

/**
 * A directory (or one file) of the host that a guest may see, and the way from the guest's inode numbers to
 * paths that cannot leave it. Each directory on the way is opened below its parent's descriptor without
 * following links, so neither a link the guest makes nor a rename while we look leads anywhere else.
 */
export class MountSource {
  readonly readOnly: boolean;
  readonly isFile: boolean;
  readonly nodes: NodeTable;
  readonly #root: number;
  /** Oldest use first. */
  readonly #directories = new Map<FuseNode, number>();
  #closed = false;

  constructor(path: string, readOnly: boolean) {
    this.readOnly = readOnly;
    try {
      this.#root = openSync(path, O_PATH);
    } catch (cause) {
      throw new GuestError("MOUNT_SOURCE", "usage", `cannot mount ${path}`, { cause });
    }
    const stat = fstatSync(this.#root, { bigint: true });
    this.isFile = stat.isFile();
    if (!this.isFile && !stat.isDirectory()) {
      closeSync(this.#root);
      throw new GuestError("MOUNT_SOURCE", "usage", `cannot mount ${path}: neither a directory nor a file`);
    }
    this.nodes = new NodeTable(stat.dev, stat.ino, (node) => this.#drop(node));
  }

  /** Descriptor of a directory, for use until the next call. */
  directory(node: FuseNode): number {
    if (this.#closed) throw new FuseRefusal("EIO");
    if (node === this.nodes.root) return this.#root;
    const chain = this.nodes.chain(node);
    let fd = this.#root;
    let from = chain.length;
    while (from > 0) {
      const known = this.#directories.get(chain[from - 1] as FuseNode);
      if (known !== undefined) {
        fd = known;
        break;
      }
      from--;
    }
    for (const next of chain.slice(from)) {
      fd = openSync(
        Buffer.from(`/proc/self/fd/${fd}/${next.name}`, "latin1"),
        O_PATH | constants.O_DIRECTORY | constants.O_NOFOLLOW,
      );
      this.#keep(next, fd);
    }
    const last = chain.at(-1) as FuseNode;
    this.#directories.delete(last);
    this.#directories.set(last, fd);
    return fd;
  }

  /** Path of a name in a directory. Its last component is for calls that do not follow links. */
  child(parent: FuseNode, name: string): Buffer {
    return Buffer.from(`/proc/self/fd/${this.directory(parent)}/${name}`, "latin1");
  }

  /** Path of a node itself, likewise. */
  path(node: FuseNode): Buffer {
    if (node === this.nodes.root) return Buffer.from(`/proc/self/fd/${this.#root}`);
    if (node.parent === null) throw new FuseRefusal("ENOENT");
    return this.child(node.parent, node.name);
  }

  /** Attributes of a node; those of an open descriptor when the name is gone. */
  stat(node: FuseNode): import("node:fs").BigIntStats {
    if (node === this.nodes.root) return fstatSync(this.#root, { bigint: true });
    const handle = node.handles.values().next().value;
    if (handle !== undefined) return fstatSync(handle, { bigint: true });
    return lstatSync(this.path(node), { bigint: true });
  }

  /**
   * Runs `use` with a path that names the node itself, for calls which follow links (`chmod`, `chown`,
   * `truncate`, `utimes`): a descriptor of the inode, so there is no link left to follow.
   */
  withInode<T>(node: FuseNode, use: (path: string) => T): T {
    const handle = node.handles.values().next().value;
    if (handle !== undefined) return use(`/proc/self/fd/${handle}`);
    if (node === this.nodes.root) return use(`/proc/self/fd/${this.#root}`);
    const fd = openSync(this.path(node), O_PATH | constants.O_NOFOLLOW);
    try {
      return use(`/proc/self/fd/${fd}`);
    } finally {
      closeSync(fd);
    }
  }

  /** Closes every descriptor; the source serves nothing afterwards. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const fd of this.#directories.values()) closeSync(fd);
    this.#directories.clear();
    closeSync(this.#root);
  }

  #keep(node: FuseNode, fd: number): void {
    this.#directories.set(node, fd);
    if (this.#directories.size > MAX_DIRECTORIES) {
      const [oldest] = this.#directories.keys();
      if (oldest !== undefined) this.#drop(oldest);
    }
  }

  #drop(node: FuseNode): void {
    const fd = this.#directories.get(node);
    if (fd === undefined) return;
    this.#directories.delete(node);
    closeSync(fd);
  }
}
