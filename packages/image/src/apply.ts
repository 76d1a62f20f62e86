import { ImageError } from "./errors.ts";
import { MAX_DEVICE_MAJOR, MAX_DEVICE_MINOR, MAX_ID, MAX_TARGET_BYTES } from "./limits.ts";
import { nameText, type RawName, showName } from "./name.ts";
import { Inode, type Name } from "./node.ts";
import { splitName, walk } from "./path.ts";
import type { Xattrs } from "./tar/pax.ts";
import type { TarEntry } from "./tar/reader.ts";

const WHITEOUT = ".wh.";
const OPAQUE = ".wh..wh..opq";
/** AUFS's own bookkeeping (`.wh..wh.aufs`, `.wh..wh.plnk`): Docker passes over it. */
const AUFS = ".wh..wh.";

/** Squashfs stores these families of extended attributes and no other. */
const STORABLE = /^(?:user|trusted|security)\./;

/**
 * Applies one layer's entries to the tree below it (OCI image-spec, "Image Layer Filesystem Changeset"). What
 * a layer adds is never hidden by the same layer's whiteouts, in whichever order they stand.
 */
export class LayerApplier {
  readonly #root: Inode;
  readonly #layer: number;
  readonly #what: string;
  readonly #notes: Set<string>;

  /** `notes` collects what squashfs cannot hold and is therefore left out. */
  constructor(root: Inode, layer: number, what: string, notes: Set<string>) {
    this.#root = root;
    this.#layer = layer;
    this.#what = what;
    this.#notes = notes;
  }

  /** Applies one entry, the `ordinal`th of its layer; returns the inode a file's content belongs to. */
  apply(entry: TarEntry, ordinal: number): Inode | undefined {
    const parts = splitName(entry.name, this.#what);
    const base = parts.pop();
    if (base === undefined) {
      this.#applyRoot(entry);
      return undefined;
    }
    if (base.startsWith(WHITEOUT)) {
      this.#whiteout(entry, parts, base);
      return undefined;
    }
    const parent = this.#parent(entry, parts);
    const children = childrenOf(parent);
    const before = children.get(base);
    if (before !== undefined) {
      if (entry.type === "directory" && before.inode.type === "directory") {
        this.#describe(before.inode, entry);
        before.given = this.#layer;
        before.touched = this.#layer;
        return undefined;
      }
      if (before.touched === this.#layer) {
        throw new ImageError("ENTRY_REFUSED", `${this.#what}: ${showName(entry.name)} is there twice`);
      }
      children.delete(base);
    }
    const inode = entry.type === "link" ? this.#link(entry) : this.#create(entry, ordinal);
    children.set(base, { inode, given: this.#layer, touched: this.#layer });
    return entry.type === "file" ? inode : undefined;
  }

  #applyRoot(entry: TarEntry): void {
    if (entry.type !== "directory") {
      throw new ImageError(
        "ENTRY_REFUSED",
        `${this.#what}: ${showName(entry.name)} makes the root a ${entry.type}`,
      );
    }
    this.#describe(this.#root, entry);
  }

  /** The directory an entry goes into, made where it is missing. */
  #parent(entry: TarEntry, parts: readonly RawName[]): Inode {
    const found = walk(this.#root, parts, (directory, part) => {
      const children = childrenOf(directory);
      let name = children.get(part);
      if (name === undefined) {
        name = { inode: Inode.implicit(), given: -1, touched: this.#layer };
        children.set(part, name);
      } else if (name.inode.type === "directory") {
        name.touched = this.#layer;
      }
      return name;
    });
    if (typeof found === "string") throw this.#noParent(entry, found);
    return found;
  }

  /** The directory a whiteout stands in; undefined where there is none, so that nothing is to be hidden. */
  #existing(entry: TarEntry, parts: readonly RawName[]): Inode | undefined {
    const found = walk(this.#root, parts, (directory, part) => directory.children?.get(part));
    if (found === "missing") return undefined;
    if (typeof found === "string") throw this.#noParent(entry, found);
    return found;
  }

  #noParent(entry: TarEntry, why: string): ImageError {
    return new ImageError("ENTRY_REFUSED", `${this.#what}: parent of ${showName(entry.name)}: ${why}`);
  }

  #whiteout(entry: TarEntry, parts: readonly RawName[], base: RawName): void {
    if (base === OPAQUE) {
      const directory = this.#existing(entry, parts);
      if (directory !== undefined) this.#hideLower(directory);
      return;
    }
    if (base.startsWith(AUFS)) return;
    const hidden = base.slice(WHITEOUT.length);
    if (hidden === "" || hidden === "." || hidden === "..") {
      throw new ImageError("ENTRY_REFUSED", `${this.#what}: whiteout ${showName(entry.name)} names no file`);
    }
    const children = this.#existing(entry, parts)?.children;
    const name = children?.get(hidden);
    if (children === undefined || name === undefined) return;
    if (name.touched !== this.#layer) {
      children.delete(hidden);
    } else if (name.inode.type === "directory") {
      this.#hideBelow(name);
    }
  }

  /** Hides everything lower layers put into a directory, however deep. */
  #hideLower(directory: Inode): void {
    const children = childrenOf(directory);
    for (const [part, name] of children) {
      if (name.touched !== this.#layer) children.delete(part);
      else if (name.inode.type === "directory") this.#hideBelow(name);
    }
  }

  #hideBelow(name: Name): void {
    if (name.given !== this.#layer) {
      name.given = -1;
      name.inode.makeImplicit();
    }
    this.#hideLower(name.inode);
  }

  #link(entry: TarEntry): Inode {
    const shown = `${this.#what}: hard link ${showName(entry.name)} to ${showName(entry.linkName)}`;
    if (entry.linkName.startsWith("/")) {
      throw new ImageError("ENTRY_REFUSED", `${shown}: its target is absolute`);
    }
    const parts = splitName(entry.linkName, shown);
    const base = parts.pop();
    const parent = walk(this.#root, parts, (directory, part) => directory.children?.get(part));
    const inode =
      typeof parent === "string" || base === undefined ? undefined : parent.children?.get(base)?.inode;
    if (inode === undefined) throw new ImageError("ENTRY_REFUSED", `${shown}: its target is not there`);
    if (inode.type === "directory")
      throw new ImageError("ENTRY_REFUSED", `${shown}: its target is a directory`);
    // containerd and Docker apply the link's own header to the shared inode
    this.#describe(inode, entry);
    return inode;
  }

  #create(entry: TarEntry, ordinal: number): Inode {
    const type = entry.type === "link" ? "file" : entry.type;
    const inode = new Inode(type, 0, 0, 0, 0);
    this.#describe(inode, entry);
    switch (type) {
      case "file":
        inode.size = entry.size;
        inode.layer = this.#layer;
        inode.ordinal = ordinal;
        break;
      case "symlink":
        if (entry.linkName === "" || entry.linkName.length > MAX_TARGET_BYTES) {
          throw new ImageError(
            "ENTRY_REFUSED",
            `${this.#what}: symlink ${showName(entry.name)} has a target of ${entry.linkName.length} bytes`,
          );
        }
        inode.target = entry.linkName;
        break;
      case "char":
      case "block":
        if (!inRange(entry.major, MAX_DEVICE_MAJOR) || !inRange(entry.minor, MAX_DEVICE_MINOR)) {
          throw new ImageError(
            "ENTRY_REFUSED",
            `${this.#what}: device ${showName(entry.name)} has the number ${entry.major}:${entry.minor}`,
          );
        }
        inode.major = entry.major;
        inode.minor = entry.minor;
        break;
      case "directory":
      case "fifo":
        break;
      default:
        return type satisfies never;
    }
    return inode;
  }

  #describe(inode: Inode, entry: TarEntry): void {
    if (!inRange(entry.uid, MAX_ID) || !inRange(entry.gid, MAX_ID)) {
      throw new ImageError(
        "ENTRY_REFUSED",
        `${this.#what}: ${showName(entry.name)} belongs to ${entry.uid}:${entry.gid}, which is no user and group`,
      );
    }
    inode.mode = inode.type === "symlink" ? 0o777 : entry.mode;
    inode.uid = entry.uid;
    inode.gid = entry.gid;
    inode.mtime = entry.mtime;
    inode.xattrs = this.#storable(entry);
  }

  #storable(entry: TarEntry): Xattrs | undefined {
    if (entry.xattrs === undefined) return undefined;
    const kept = new Map<RawName, Buffer>();
    for (const [key, value] of entry.xattrs) {
      if (key.startsWith("trusted.overlay.")) {
        throw new ImageError(
          "ENTRY_REFUSED",
          `${this.#what}: ${showName(entry.name)} has ${showName(key)}, which would steer the guest's overlay`,
        );
      }
      if (STORABLE.test(key)) kept.set(key, value);
      else this.#notes.add(`extended attributes ${nameText(key)} are left out: squashfs does not store them`);
    }
    return kept.size === 0 ? undefined : kept;
  }
}

function inRange(value: number, max: number): boolean {
  return value >= 0 && value <= max;
}

function childrenOf(directory: Inode): Map<RawName, Name> {
  if (directory.children === undefined) {
    throw new ImageError("ENTRY_REFUSED", "a file was taken for a directory");
  }
  return directory.children;
}
