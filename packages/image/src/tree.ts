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
  /** All names of each inode that is no directory, in the order of their bytes. */
  readonly #names = new Map<Inode, RawName[]>();
  readonly #directories: { name: RawName; inode: Inode }[] = [];
  /** For each layer, the files whose content it holds, by the number of their entry. */
  readonly #contents: Map<number, Inode>[];

  constructor(root: Inode, passes: readonly LayerPass[], limits: FlattenLimits, notes: readonly string[]) {
    this.#root = root;
    this.#passes = passes;
    this.#limits = limits;
    this.notes = [...notes].sort();
    this.#contents = passes.map(() => new Map());
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
    let names = 0;
    let files = 0;
    let bytes = 0;
    const todo: { name: RawName; inode: Inode }[] = [{ name: "", inode: this.#root }];
    for (let at = todo.pop(); at !== undefined; at = todo.pop()) {
      this.#directories.push(at);
      for (const [part, { inode }] of at.inode.children ?? []) {
        names++;
        ids.add(inode.uid).add(inode.gid);
        const name = at.name === "" ? part : `${at.name}/${part}`;
        if (inode.type === "directory") {
          todo.push({ name, inode });
          continue;
        }
        const have = this.#names.get(inode);
        if (have !== undefined) {
          have.push(name);
          continue;
        }
        this.#names.set(inode, [name]);
        if (inode.type === "file") {
          files++;
          bytes += inode.size;
          const { origin } = inode;
          if (origin?.kind === "layer" && inode.size > 0) {
            this.#contents[origin.layer]?.set(origin.ordinal, inode);
          }
        }
      }
    }
    this.#directories.sort((a, b) => compareNames(a.name, b.name));
    for (const list of this.#names.values()) if (list.length > 1) list.sort(compareNames);
    return { names, files, directories: this.#directories.length, bytes, ids: ids.size };
  }

  /** Everything that has no content: directories, then the rest by name. */
  async #writeMetadata(writer: TarWriter): Promise<void> {
    for (const { name, inode } of this.#directories)
      await writer.header(entryOf(inode, name === "" ? "./" : name));
    const bare = [...this.#names].filter(([inode]) => inode.type !== "file" || inode.size === 0);
    for (const [inode, names] of bare.sort(byFirstName)) await this.#writeNames(writer, inode, names);
  }

  async #writeNames(writer: TarWriter, inode: Inode, names: readonly RawName[]): Promise<void> {
    const first = names[0] ?? "";
    await writer.header(entryOf(inode, first));
    await this.#writeLinks(writer, inode, names);
  }

  async #writeLinks(writer: TarWriter, inode: Inode, names: readonly RawName[]): Promise<void> {
    const first = names[0] ?? "";
    for (const name of names.slice(1)) {
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
      let ordinal = 0;
      for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
        const inode = this.#contents[index]?.get(ordinal++);
        if (inode === undefined) continue;
        if (entry.type !== "file" || entry.size !== inode.size) throw changed(layer);
        const names = this.#names.get(inode) ?? [];
        await writer.header(entryOf(inode, names[0] ?? ""));
        await reader.data(sink);
        await writer.pad(inode.size);
        await this.#writeLinks(writer, inode, names);
      }
      if (ordinal !== pass.entries || reader.structure() !== pass.structure) throw changed(layer);
    } finally {
      await feed.close();
    }
  }

  async #writeLocal(writer: TarWriter): Promise<void> {
    const full = [...this.#names].filter(([inode]) => inode.type === "file" && inode.size > 0);
    for (const [inode, names] of full.sort(byFirstName)) {
      await writer.header(entryOf(inode, names[0] ?? ""));
      await this.#readContent(inode, (bytes) => writer.write(bytes));
      await writer.pad(inode.size);
      await this.#writeLinks(writer, inode, names);
    }
    for (const { inode } of this.#directories) await refuseChanged(inode);
    for (const inode of this.#names.keys()) await refuseChanged(inode);
  }

  async #readContent(inode: Inode, sink: (bytes: Buffer) => Promise<void> | undefined): Promise<void> {
    const { origin } = inode;
    if (origin === undefined) return;
    if (origin.kind === "local") {
      await copyLocal(origin, sink);
      return;
    }
    const pass = this.#passes[origin.layer];
    if (pass === undefined) return;
    const { layer, compression } = pass;
    const feed = await openFeed(layer.region, compression, { what: layer.what, limits: this.#limits });
    try {
      const reader = new TarReader(feed, layer.what, HEADER_WINDOW_BYTES);
      for (let ordinal = 0; ; ordinal++) {
        const entry = await reader.next();
        if (entry === undefined) throw changed(layer);
        if (ordinal < origin.ordinal) continue;
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

function byFirstName(a: [Inode, RawName[]], b: [Inode, RawName[]]): number {
  return compareNames(a[1][0] ?? "", b[1][0] ?? "");
}

function changed(layer: Layer): ImageError {
  return new ImageError(
    "SOURCE_CHANGED",
    `${layer.what} (${layer.region.file.path}) changed between two readings`,
  );
}
