import type { RawName } from "./name.ts";
import type { FileIdentity } from "./region.ts";
import type { Xattrs } from "./tar/pax.ts";

/** What a node of the file tree is. */
export type NodeType = "file" | "directory" | "symlink" | "char" | "block" | "fifo";

/** A local file or directory as the first look saw it. */
export interface LocalOrigin {
  readonly path: RawName;
  readonly identity: FileIdentity;
}

/**
 * One inode; hard links are several names of one. There are as many of these as the image has files, so
 * nothing is in here that could be found another way.
 */
export class Inode {
  readonly type: NodeType;
  mode: number;
  uid: number;
  gid: number;
  mtime: number;
  size = 0;
  target: RawName = "";
  major = 0;
  minor = 0;
  xattrs: Xattrs | undefined = undefined;
  /** The layer and the entry in it that hold a file's content; -1 where none does. */
  layer = -1;
  ordinal = -1;
  /** Where this was read from, for the source that is a directory. */
  local: LocalOrigin | undefined = undefined;
  /** One of its names: the directory and the name in it. Set when the tree is finished. */
  parent: Inode | undefined = undefined;
  part: RawName = "";
  /** Content kept from the first pass, for the few small files that are always asked for. */
  kept: Buffer | undefined = undefined;
  readonly children: Map<RawName, Name> | undefined;

  constructor(type: NodeType, mode: number, uid: number, gid: number, mtime: number) {
    this.type = type;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
    this.mtime = mtime;
    this.children = type === "directory" ? new Map() : undefined;
  }

  /** A directory nobody described: 0755, root's, at the beginning of time. */
  static implicit(): Inode {
    return new Inode("directory", 0o755, 0, 0, 0);
  }

  /** The path of its `parent` and `part`; empty for the root. */
  path(): RawName {
    let path = this.part;
    for (let up = this.parent; up?.parent !== undefined; up = up.parent) path = `${up.part}/${path}`;
    return path;
  }

  /** Takes back what lower layers said about a directory. */
  makeImplicit(): void {
    this.mode = 0o755;
    this.uid = 0;
    this.gid = 0;
    this.mtime = 0;
    this.xattrs = undefined;
  }
}

/** A name in a directory, and which layer spoke of it last. */
export interface Name {
  readonly inode: Inode;
  /** The layer with an entry for this very name; -1 for implicit directories. */
  given: number;
  /** The last layer that gave this name or put something below it. */
  touched: number;
}
