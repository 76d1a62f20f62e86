import { FuseRefusal } from "./errno.ts";

/** The number FUSE gives the root of a mount. */
export const ROOT_ID = 1n;

/** Inodes the guest may hold at once; its own kernel forgets long before. */
const MAX_NODES = 1 << 18;

/** Deepest directory: a longer path than Linux takes could not be made in one go either. */
const MAX_DEPTH = 2048;

/** An inode the guest knows, by where it was found. */
export interface FuseNode {
  readonly id: bigint;
  /** Null for the root and for what was removed or replaced. */
  parent: FuseNode | null;
  /** Bytes of the name, one per UTF-16 unit (latin1), so that any file name survives. */
  name: string;
  readonly dev: bigint;
  readonly ino: bigint;
  lookups: number;
  children: Map<string, FuseNode> | null;
  /** Descriptors the guest holds open on it; they answer when the name is gone. */
  readonly handles: Set<number>;
}

/** The inodes a guest holds, as a tree of names. Never touches a file. */
export class NodeTable {
  readonly root: FuseNode;
  readonly #nodes = new Map<bigint, FuseNode>();
  readonly #onGone: (node: FuseNode) => void;
  #next = 2n;

  constructor(dev: bigint, ino: bigint, onGone: (node: FuseNode) => void) {
    this.#onGone = onGone;
    this.root = {
      id: ROOT_ID,
      parent: null,
      name: "",
      dev,
      ino,
      lookups: 1,
      children: null,
      handles: new Set(),
    };
    this.#nodes.set(ROOT_ID, this.root);
  }

  get size(): number {
    return this.#nodes.size;
  }

  get(id: bigint): FuseNode {
    const node = this.#nodes.get(id);
    if (node === undefined) throw new FuseRefusal("ESTALE");
    return node;
  }

  /** The names from the root to a node; refuses one that is no longer below the root. */
  chain(node: FuseNode): FuseNode[] {
    const chain: FuseNode[] = [];
    let at = node;
    while (at !== this.root) {
      if (at.parent === null) throw new FuseRefusal("ENOENT");
      if (chain.length >= MAX_DEPTH) throw new FuseRefusal("ENAMETOOLONG");
      chain.push(at);
      at = at.parent;
    }
    return chain.reverse();
  }

  /** The node of a name that was just looked at, counted as one more lookup. */
  remember(parent: FuseNode, name: string, dev: bigint, ino: bigint): FuseNode {
    const known = parent.children?.get(name);
    if (known !== undefined) {
      if (known.dev === dev && known.ino === ino) {
        known.lookups++;
        return known;
      }
      // Something else carries the name now: whoever holds the old node must not reach the new file by it.
      this.detach(parent, name);
    }
    if (this.#nodes.size >= MAX_NODES) throw new FuseRefusal("ENFILE");
    const node: FuseNode = {
      id: this.#next++,
      parent,
      name,
      dev,
      ino,
      lookups: 1,
      children: null,
      handles: new Set(),
    };
    this.#nodes.set(node.id, node);
    parent.children ??= new Map();
    parent.children.set(name, node);
    return node;
  }

  /** The guest's kernel dropped `count` lookups of a node. */
  forget(id: bigint, count: bigint): void {
    const node = this.#nodes.get(id);
    if (node === undefined || node === this.root) return;
    node.lookups = count >= BigInt(node.lookups) ? 0 : node.lookups - Number(count);
    this.#collect(node);
  }

  /** A name was removed. */
  detach(parent: FuseNode, name: string): void {
    const node = parent.children?.get(name);
    if (node === undefined) return;
    parent.children?.delete(name);
    node.parent = null;
    this.#onGone(node);
  }

  /** A name was renamed over another. */
  move(parent: FuseNode, name: string, newParent: FuseNode, newName: string): void {
    const node = parent.children?.get(name);
    if (parent === newParent && name === newName) return;
    this.detach(newParent, newName);
    if (node === undefined) return;
    parent.children?.delete(name);
    node.parent = newParent;
    node.name = newName;
    newParent.children ??= new Map();
    newParent.children.set(newName, node);
  }

  #collect(start: FuseNode): void {
    let node: FuseNode | null = start;
    while (node !== null && node !== this.root && node.lookups === 0 && (node.children?.size ?? 0) === 0) {
      const parent: FuseNode | null = node.parent;
      parent?.children?.delete(node.name);
      node.parent = null;
      this.#nodes.delete(node.id);
      this.#onGone(node);
      node = parent;
    }
  }
}
