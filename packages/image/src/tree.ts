import type { Writable } from "node:stream";
import { copyLocal, refuseChanged } from "./directory.ts";
import { ImageError } from "./errors.ts";
import { type Compression, openFeed } from "./feed.ts";
import type { FlattenLimits } from "./limits.ts";
import { compareNames, nameText, type RawName, rawName } from "./name.ts";
import type { Inode, NodeType } from "./node.ts";
import { find } from "./path.ts";
import type { Layer } from "./source.ts";
import { TarReader } from "./tar/reader.ts";
import { TarWriter, type WriteEntry } from "./tar/writer.ts";

/** What the first pass found out about a layer, for the second to hold it to. */
export interface LayerPass {
  readonly layer: Layer;
  readonly compression: Compression;
  readonly structure: string;
  readonly entries: number;
}

/** Sums over a file tree. */
export interface TreeTotals {
  /** Names, the root not counted. */
  readonly names: number;
  readonly files: number;
  readonly directories: number;
  /** Bytes of all files, holes counted, each inode once. */
  readonly bytes: number;
  /** Different user and group ids together. */
  readonly ids: number;
}

/** What `lookup` tells about a node. */
export interface NodeInfo {
  readonly type: NodeType;
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: number;
  readonly size: number;
  /** Target of a symlink, else empty. */
  readonly target: string;
}

/** Read at once while content is copied. */
const WINDOW_BYTES = 512 * 1024;
const HEADER_WINDOW_BYTES = 64 * 1024;

const TYPE_FLAGS: Readonly<Record<NodeType, WriteEntry["type"]>> = {
  file: "0",
  symlink: "2",
  char: "3",
  block: "4",
  directory: "5",
  fifo: "6",
};

/** The finished tree of an image: names and metadata in memory, contents still where they came from. */
export class FlatTree {
  readonly totals: TreeTotals;
  /** What could not be kept, one sentence each; empty for nearly every image. */
  readonly notes: readonly string[];
  readonly #root: Inode;
  readonly #passes: readonly LayerPass[];
  readonly #limits: FlattenLimits;
  readonly #directories: { name: RawName; inode: Inode }[] = [];
  /** Everything that has no content, by its first name. */
  readonly #bare: { name: RawName; inode: Inode }[] = [];
  /** For each layer (or for the one local directory) the files with content, in the order they are read. */
  readonly #contents: Inode[][];
  /** All names, sorted, of those inodes that have several. */
  readonly #links = new Map<Inode, RawName[]>();

  constructor(root: Inode, passes: readonly LayerPass[], limits: FlattenLimits, notes: readonly string[]) {
    this.#root = root;
    this.#passes = passes;
    this.#limits = limits;
    this.notes = [...notes].sort();
    this.#contents = passes.length === 0 ? [[]] : passes.map(() => []);
    this.totals = this.#collect();
  }

  /** What is at a path, symlinks resolved inside the root (the last one too); undefined where nothing is. */
  lookup(path: string): NodeInfo | undefined {
    const inode = find(this.#root, rawName(path));
    if (inode === undefined) return undefined;
    const { type, mode, uid, gid, mtime, size } = inode;
    return { type, mode, uid, gid, mtime, size, target: nameText(inode.target) };
  }

  /** Content of a file of at most `max` bytes; undefined where nothing is at the path. */
  async readFile(path: string, max: number): Promise<Buffer | undefined> {
    const inode = find(this.#root, rawName(path));
    if (inode === undefined) return undefined;
    if (inode.type !== "file")
      throw new ImageError("PATH_NOT_FOUND", `${path} is a ${inode.type}, not a file`);
    if (inode.size > max) {
      throw new ImageError("LIMIT_EXCEEDED", `${path} has ${inode.size} bytes, at most ${max} are read`);
    }
    if (inode.kept !== undefined) return Buffer.from(inode.kept);
    const content = Buffer.alloc(inode.size);
    let at = 0;
    await this.#readContent(inode, (bytes) => {
      at += bytes.copy(content, at);
      return undefined;
    });
    return content;
  }

  /**
   * Second pass: writes the tree as a tar archive for `tar2sqfs` and ends the stream. Every layer is read
   * whole and held to its digests and to what the first pass saw. When this rejects, the stream is
   * destroyed and whatever was made of it must be thrown away.
   */
  async writeTar(stream: Writable): Promise<void> {
    // write() callbacks report failures; without a listener the stream's own event would end the process
    const ignore = (): undefined => undefined;
    stream.on("error", ignore);
    try {
      const writer = new TarWriter(stream);
      await this.#writeMetadata(writer);
      for (const [i, pass] of this.#passes.entries()) await this.#writeLayer(writer, pass, i);
      if (this.#passes.length === 0) await this.#writeLocal(writer);
      await writer.end();
      await new Promise<void>((resolve, reject) => {
        stream.end((error?: Error | null) => {
          if (error)
            reject(new ImageError("OUTPUT_FAILED", "cannot write the flattened tree", { cause: error }));
          else resolve();
        });
      });
    } catch (error) {
      stream.destroy();
      throw error;
    } finally {
      stream.off("error", ignore);
    }
  }

  #collect(): TreeTotals {
    const ids = new Set<number>([this.#root.uid, this.#root.gid]);
    const bare: Inode[] = [];
    let names = 0;
    let files = 0;
    let bytes = 0;
    const todo = [this.#root];
    for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
      this.#directories.push({ name: at.path(), inode: at });
      for (const [part, { inode }] of at.children ?? []) {
        names++;
        ids.add(inode.uid).add(inode.gid);
        if (inode.parent !== undefined) {
          this.#addLink(inode, at, part);
          continue;
        }
        inode.parent = at;
        inode.part = part;
        if (inode.type === "directory") todo.push(inode);
        else if (inode.type !== "file" || inode.size === 0) bare.push(inode);
        else this.#contents[Math.max(inode.layer, 0)]?.push(inode);
        if (inode.type === "file") {
          files++;
          bytes += inode.size;
        }
      }
    }
    for (const list of this.#links.values()) list.sort(compareNames);
    this.#directories.sort(byName);
    for (const inode of bare) this.#bare.push({ name: this.#namesOf(inode)[0], inode });
    this.#bare.sort(byName);
    for (const list of this.#contents) list.sort((a, b) => a.ordinal - b.ordinal);
    return { names, files, directories: this.#directories.length, bytes, ids: ids.size };
  }

  #addLink(inode: Inode, directory: Inode, part: RawName): void {
    const path = directory.path();
    const name = path === "" ? part : `${path}/${part}`;
    const have = this.#links.get(inode);
    if (have === undefined) this.#links.set(inode, [inode.path(), name]);
    else have.push(name);
  }

  #namesOf(inode: Inode): [RawName, ...RawName[]] {
    const [first, ...rest] = this.#links.get(inode) ?? [inode.path()];
    return [first ?? "", ...rest];
  }

  /** Everything that has no content: directories, then the rest by name. */
  async #writeMetadata(writer: TarWriter): Promise<void> {
    for (const { name, inode } of this.#directories) {
      await writer.header(entryOf(inode, name === "" ? "./" : name));
    }
    for (const { name, inode } of this.#bare) {
      await writer.header(entryOf(inode, name));
      await this.#writeLinks(writer, inode);
    }
  }

  async #writeLinks(writer: TarWriter, inode: Inode): Promise<void> {
    const [first, ...rest] = this.#links.get(inode) ?? [];
    if (first === undefined) return;
    for (const name of rest) {
      await writer.header({
        ...entryOf(inode, name),
        type: "1",
        size: 0,
        linkName: first,
        xattrs: undefined,
      });
    }
  }

  async #writeLayer(writer: TarWriter, pass: LayerPass, index: number): Promise<void> {
    const { layer } = pass;
    const feed = await openFeed(layer.region, pass.compression, {
      what: layer.what,
      blob: layer.blob,
      content: layer.diffId,
      limits: this.#limits,
    });
    try {
      const reader = new TarReader(feed, layer.what, WINDOW_BYTES);
      const sink = (bytes: Buffer): Promise<void> | undefined => writer.write(bytes);
      const wanted = this.#contents[index] ?? [];
      let next = 0;
      let ordinal = 0;
      for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
        const inode = wanted[next];
        const at = ordinal++;
        if (inode === undefined || inode.ordinal !== at) continue;
        next++;
        if (entry.type !== "file" || entry.size !== inode.size) throw changed(layer);
        await writer.header(entryOf(inode, this.#namesOf(inode)[0]));
        await reader.data(sink);
        await writer.pad(inode.size);
        await this.#writeLinks(writer, inode);
      }
      if (ordinal !== pass.entries || reader.structure() !== pass.structure) throw changed(layer);
    } finally {
      await feed.close();
    }
  }

  async #writeLocal(writer: TarWriter): Promise<void> {
    const files = (this.#contents[0] ?? []).map((inode) => ({ name: this.#namesOf(inode)[0], inode }));
    for (const { name, inode } of files.sort(byName)) {
      await writer.header(entryOf(inode, name));
      await this.#readContent(inode, (bytes) => writer.write(bytes));
      await writer.pad(inode.size);
      await this.#writeLinks(writer, inode);
    }
    for (const { inode } of [...this.#directories, ...this.#bare, ...files]) await refuseChanged(inode);
  }

  async #readContent(inode: Inode, sink: (bytes: Buffer) => Promise<void> | undefined): Promise<void> {
    if (inode.local !== undefined) {
      await copyLocal(inode.local, sink);
      return;
    }
    const pass = this.#passes[inode.layer];
    if (pass === undefined) return;
    const { layer, compression } = pass;
    const feed = await openFeed(layer.region, compression, { what: layer.what, limits: this.#limits });
    try {
      const reader = new TarReader(feed, layer.what, HEADER_WINDOW_BYTES);
      for (let ordinal = 0; ; ordinal++) {
        const entry = await reader.next();
        if (entry === undefined) throw changed(layer);
        if (ordinal < inode.ordinal) continue;
        if (entry.type !== "file" || entry.size !== inode.size) throw changed(layer);
        await reader.data(sink);
        return;
      }
    } finally {
      await feed.close();
    }
  }
}

function entryOf(inode: Inode, name: RawName): WriteEntry {
  const { mode, uid, gid, mtime, size, target, major, minor, xattrs } = inode;
  return {
    type: TYPE_FLAGS[inode.type],
    name,
    linkName: target,
    mode,
    uid,
    gid,
    mtime,
    size,
    major,
    minor,
    xattrs,
  };
}

function byName(a: { name: RawName }, b: { name: RawName }): number {
  return compareNames(a.name, b.name);
}

function changed(layer: Layer): ImageError {
  return new ImageError(
    "SOURCE_CHANGED",
    `${layer.what} (${layer.region.file.path}) changed between two readings`,
  );
}
