import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ShelterError } from "@shelter/base";
import { flatten, openSource } from "../src/index.ts";
import {
  dir,
  file,
  type Header,
  link,
  list,
  type Packing,
  pack,
  sum,
  symlink,
  tar,
  writeOci,
  written,
} from "./make.ts";

/** Numbers from a seed: the same seed, the same run (mulberry32). */
export function random(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) % below;
  };
}

type Random = (below: number) => number;

const PARTS = ["a", "b", "c", "lnk"];

function pick<T>(from: readonly T[], next: Random): T {
  return from[next(from.length)] as T;
}

function name(next: Random): string {
  const parts: string[] = [];
  for (let i = next(4); i >= 0; i--) parts.push(pick(PARTS, next));
  return parts.join("/");
}

/**
 * A random layer over few names, so that entries meet each other; `files` are names that may be linked to.
 * `wild` adds what must be refused.
 */
export function randomLayer(next: Random, wild: boolean, files: string[]): Buffer {
  const entries: Header[] = [];
  const taken = new Set<string>();
  for (let i = next(9); i >= 0; i--) {
    const at = name(next);
    if (!wild && taken.has(at)) continue;
    taken.add(at);
    const cut = at.lastIndexOf("/") + 1;
    const hidden = `${at.slice(0, cut)}.wh.${at.slice(cut)}`;
    switch (next(wild ? 11 : 9)) {
      case 0:
      case 1:
        entries.push(dir(at, { mode: 0o700 + next(64), uid: next(9), mtime: next(1e9) }));
        break;
      case 2:
      case 3:
        entries.push(
          file(at, "x".repeat(next(1500)), { mode: 0o600 + next(64), uid: next(9), mtime: next(1e9) }),
        );
        break;
      case 4:
        entries.push(symlink(at, pick(["a", "/b", "../c", "a/b", "../../a", "lnk"], next)));
        break;
      case 5:
        if (files.length > 0) entries.push(link(at, pick(files, next)));
        break;
      case 6:
        entries.push(file(hidden));
        break;
      case 7:
        entries.push(file(`${at}/.wh..wh..opq`));
        break;
      case 8:
        entries.push(
          file(at, "y", { pax: { "SCHILY.xattr.user.k": String(next(100)), mtime: String(next(1e6)) } }),
        );
        break;
      case 9:
        entries.push(file(pick(["../x", "a/../b", "/abs", ".wh..", "", "a//b", "./a/."], next), "z"));
        break;
      default:
        entries.push(link(at, pick(["/a", "../a", "", at], next)));
    }
  }
  return tar(...entries);
}

const FIELDS = [0, 100, 108, 116, 124, 136, 156, 157, 257, 329, 337, 345, 386, 482, 483];

/** Alters a layer in a few places; header checksums are mostly put right, so that more than them is tried. */
export function mutate(layer: Buffer, next: Random): Buffer {
  let out: Buffer = Buffer.from(layer);
  for (let i = next(4); i >= 0; i--) {
    const blocks = out.length >> 9;
    if (blocks === 0) break;
    const at = next(blocks) * 512;
    const block = out.subarray(at, at + 512);
    switch (next(8)) {
      case 0:
      case 1:
      case 2: {
        const field = pick(FIELDS, next) + next(3);
        block[field] = pick(
          [0, 0x20, 0x2e, 0x2f, 0x30, 0x31, 0x35, 0x37, 0x53, 0x78, 0x80, 0xff, next(256)],
          next,
        );
        break;
      }
      case 3:
        block[next(512)] = next(256);
        break;
      case 4:
        out = Buffer.concat([out.subarray(0, at), out.subarray(at + 512)]);
        continue;
      case 5:
        out = Buffer.concat([out.subarray(0, at), block, out.subarray(at)]);
        continue;
      case 6:
        out = out.subarray(0, next(out.length + 1));
        continue;
      default:
        block.write(
          pick(["7777777", "0000000", "99999", "-1", "\0\0\0"], next),
          pick(FIELDS, next),
          "latin1",
        );
    }
    if (next(10) > 0 && block.toString("latin1", 257, 262) === "ustar") sum(block);
  }
  return out;
}

/** Flattens layers; what is accepted must flatten to itself again. Anything thrown must be a named error. */
export async function tryLayers(
  layers: Buffer[],
  blobs: Buffer[],
  where: string,
): Promise<"accepted" | "refused"> {
  const path = join(where, "image");
  mkdirSync(path, { recursive: true });
  try {
    writeOci(path, layers, { blobs });
    let flat: Buffer;
    try {
      const tree = await flatten(await openSource(`oci:${path}`));
      tree.lookup("a/b/../lnk");
      flat = await written(tree);
    } catch (error) {
      if (error instanceof ShelterError && error.kind !== "bug") return "refused";
      throw error;
    }
    for (const flatName of list(flat).keys()) {
      if (flatName.split("/").includes("..")) throw new Error(`${JSON.stringify(flatName)} came through`);
    }
    rmSync(path, { recursive: true });
    writeOci(path, [flat]);
    const again = await written(await flatten(await openSource(`oci:${path}`)));
    if (Buffer.compare(again, flat) !== 0) throw new Error("flattening a flattened layer changed it");
    return "accepted";
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}

/** Tries random images until `done`; throws with the seed that fails. */
export async function fuzzLayers(
  seed: number,
  done: (tried: number) => boolean,
): Promise<{ tried: number; accepted: number }> {
  const where = mkdtempSync(join(tmpdir(), "shelter-image-fuzz-"));
  let tried = 0;
  let accepted = 0;
  try {
    for (; !done(tried); tried++) {
      const next = random(seed + tried);
      const mutated = next(3) === 0;
      const files: string[] = [];
      const layers = Array.from({ length: 1 + next(3) }, () => randomLayer(next, next(4) === 0, files));
      if (mutated) layers[next(layers.length)] = mutate(layers[0] as Buffer, next);
      const packing = pick<Packing>(["none", "none", "gzip", "zstd"], next);
      const blobs = layers.map((layer) => pack(layer, packing));
      if (next(8) === 0) blobs[0] = mutate(blobs[0] as Buffer, next);
      try {
        if ((await tryLayers(layers, blobs, where)) === "accepted") accepted++;
      } catch (cause) {
        throw new Error(`seed ${seed + tried}`, { cause });
      }
    }
  } finally {
    rmSync(where, { recursive: true, force: true });
  }
  return { tried, accepted };
}
