import { LayerApplier } from "./apply.ts";
import { readDirectory } from "./directory.ts";
import { ImageError } from "./errors.ts";
import { detectCompression, type Feed, openFeed } from "./feed.ts";
import { DEFAULT_LIMITS, type FlattenLimits, MAX_IDS, MAX_LAYERS } from "./limits.ts";
import { Inode } from "./node.ts";
import type { ImageSource, Layer } from "./source.ts";
import { TarReader } from "./tar/reader.ts";
import { FlatTree, type LayerPass } from "./tree.ts";

/** Read at once while looking for headers: most file data is passed over. */
const WINDOW_BYTES = 64 * 1024;

/** Files whose content is kept from the first pass, since users and groups are always looked up. */
const KEPT_NAMES: ReadonlySet<string> = new Set(["etc/passwd", "etc/group", "./etc/passwd", "./etc/group"]);
const KEPT_BYTES = 256 * 1024;

/**
 * First pass: applies all layers to a file tree in memory, bottom first, as containerd and Docker unpack
 * them. File contents are not held; `writeTar` of the result reads them again. A layer's blob digest is
 * checked here where the layer is packed and has to be read anyway, every digest is checked by `writeTar`.
 */
export async function flatten(
  source: ImageSource,
  options: { readonly limits?: Partial<FlattenLimits> } = {},
): Promise<FlatTree> {
  const limits: FlattenLimits = { ...DEFAULT_LIMITS, ...options.limits };
  if ("directory" in source.content) {
    const { root, notes } = await readDirectory(source.content.directory, limits);
    return finish(new FlatTree(root, [], limits, notes), limits);
  }
  const { layers } = source.content;
  if (layers.length > MAX_LAYERS) {
    throw new ImageError("LIMIT_EXCEEDED", `the image has ${layers.length} layers, at most ${MAX_LAYERS}`);
  }
  const root = Inode.implicit();
  const notes = new Set<string>();
  const passes: LayerPass[] = [];
  const counts = { entries: 0, xattrBytes: 0 };
  for (const [i, layer] of layers.entries()) {
    passes.push(await applyLayer(root, layer, i, limits, counts, notes));
  }
  return finish(new FlatTree(root, passes, limits, [...notes]), limits);
}

async function applyLayer(
  root: Inode,
  layer: Layer,
  index: number,
  limits: FlattenLimits,
  counts: { entries: number; xattrBytes: number },
  notes: Set<string>,
): Promise<LayerPass> {
  const compression = await detectCompression(layer.region);
  const packed = compression !== "none";
  const feed: Feed = await openFeed(layer.region, compression, {
    what: layer.what,
    blob: packed ? layer.blob : undefined,
    limits,
  });
  try {
    const reader = new TarReader(feed, layer.what, WINDOW_BYTES);
    const applier = new LayerApplier(root, index, layer.what, notes);
    let ordinal = 0;
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
      if (++counts.entries > limits.entries) {
        throw new ImageError("LIMIT_EXCEEDED", `${layer.what}: more than ${limits.entries} entries`);
      }
      for (const [key, value] of entry.xattrs ?? []) counts.xattrBytes += key.length + value.length;
      if (counts.xattrBytes > limits.xattrBytes) {
        throw new ImageError(
          "LIMIT_EXCEEDED",
          `${layer.what}: more than ${limits.xattrBytes} bytes of xattrs`,
        );
      }
      const inode = applier.apply(entry, ordinal);
      if (inode !== undefined && entry.size <= KEPT_BYTES && KEPT_NAMES.has(entry.name)) {
        const pieces: Buffer[] = [];
        await reader.data((bytes) => {
          pieces.push(Buffer.from(bytes));
          return undefined;
        });
        inode.kept = Buffer.concat(pieces);
      }
      ordinal++;
    }
    return { layer, compression, structure: reader.structure(), entries: ordinal };
  } finally {
    await feed.close();
  }
}

function finish(tree: FlatTree, limits: FlattenLimits): FlatTree {
  const { totals } = tree;
  if (totals.bytes > limits.treeBytes) {
    throw new ImageError("LIMIT_EXCEEDED", `the tree has ${totals.bytes} bytes, at most ${limits.treeBytes}`);
  }
  if (totals.ids > MAX_IDS) {
    throw new ImageError(
      "LIMIT_EXCEEDED",
      `the tree has ${totals.ids} user and group ids, at most ${MAX_IDS}`,
    );
  }
  return tree;
}
