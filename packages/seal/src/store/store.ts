import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
} from "node:fs";
import { join } from "node:path";
import { type Digest, hexOf, type JsonObject, parseDigest, parseJson, replaceFile } from "@shelter/base";
import { digestFile } from "../assets.ts";
import { SealError } from "../errors.ts";
import { decodeManifest } from "../manifest-decode.ts";
import { identityPrefix, parseName } from "../name.ts";
import { decodeRecord } from "../record.ts";
import type { ImageFile, ImageRecord, SealedImage } from "../sealed.ts";
import { syncDirectory, syncPath } from "./files.ts";
import { underLock } from "./lock.ts";
import { processMark } from "./process-mark.ts";

const IMAGE = /^[0-9a-f]{64}$/;
const TEMPORARY = /^\.(?:build|trash)-([0-9]+)-([0-9]+)\./;

/** What `remove` did. */
export type Removal = { readonly untagged: readonly string[]; readonly deleted: Digest | undefined };

/** The sealed images of one state directory (docs/formats.md, "The sealed image"). */
export class ImageStore {
  readonly #directory: string;

  /** `state`: the state directory; the images are below `images`. */
  constructor(state: string) {
    this.#directory = join(state, "images");
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
  }

  get directory(): string {
    return this.#directory;
  }

  /** All images, by their first name, then those without. One that cannot be read is told to `onDamaged`, and left out. */
  images(onDamaged: (identity: Digest, error: unknown) => void = () => undefined): SealedImage[] {
    const names = this.#names();
    const found: SealedImage[] = [];
    for (const entry of readdirSync(this.#directory)) {
      if (!IMAGE.test(entry)) continue;
      const identity = `sha256:${entry}` as Digest;
      try {
        found.push(this.#open(identity, names));
      } catch (error) {
        onDamaged(identity, error);
      }
    }
    const key = (image: SealedImage): string => `${image.names[0] ?? "\uffff"}\0${image.identity}`;
    return found.sort((a, b) => (key(a) < key(b) ? -1 : 1));
  }

  /** The image of a `NAME[:TAG]` or the beginning of an identity; a name wins, as with Docker. */
  inspect(reference: string): SealedImage {
    const names = this.#names();
    return this.#open(this.#find(reference, names), names);
  }

  /** Gives an image one more name, taking it from whichever had it. */
  tag(reference: string, name: string): SealedImage {
    const full = parseName(name);
    return underLock(this.#directory, () => {
      const names = this.#names();
      const identity = this.#find(reference, names);
      names.set(full, identity);
      this.#writeNames(names);
      return this.#open(identity, names);
    });
  }

  /**
   * Takes a name away, and the image with its last one. By identity: the image with all its names, if it has
   * at most one or `force` is set. `inUse` names what still needs the image, which is then kept.
   */
  remove(
    reference: string,
    options: { inUse: (identity: Digest) => string | undefined; force?: boolean },
  ): Removal {
    return underLock(this.#directory, () => {
      const names = this.#names();
      const identity = this.#find(reference, names);
      const all = [...names].filter(([, of]) => of === identity).map(([name]) => name);
      const byName = this.#byName(reference, names);
      if (byName === undefined && all.length > 1 && options.force !== true) {
        throw new SealError("IMAGE_IN_USE", "refused", `the image has the names ${all.sort().join(", ")}`, {
          hint: "remove the names one by one, or all at once with --force",
        });
      }
      const untagged = byName === undefined ? all.sort() : [byName];
      const last = untagged.length === all.length;
      if (last) {
        const user = options.inUse(identity);
        if (user !== undefined) {
          throw new SealError("IMAGE_IN_USE", "refused", `the image is used by ${user}`, {
            hint: `remove it first: shelter rm ${user}`,
          });
        }
      }
      for (const name of untagged) names.delete(name);
      this.#writeNames(names);
      if (!last) return { untagged, deleted: undefined };
      this.#discard(join(this.#directory, hexOf(identity)));
      return { untagged, deleted: identity };
    });
  }

  /** A directory of its own for a build, on the same file system; what dead builders left is cleared away. */
  begin(): string {
    this.#sweep();
    return mkdtempSync(join(this.#directory, `.build-${processMark(process.pid) ?? `${process.pid}-0`}.`));
  }

  /** Makes a finished build the image it is: all of it at once, and after a crash all or nothing. */
  async commit(temporary: string, identity: Digest, name: string | undefined): Promise<SealedImage> {
    const full = name === undefined ? undefined : parseName(name);
    const target = join(this.#directory, hexOf(identity));
    syncDirectory(temporary);
    // The same image built again: what is there stays, unless it has been damaged since.
    const damaged = existsSync(target) && (await this.#isDamaged(target));
    return underLock(this.#directory, () => {
      if (damaged && existsSync(target)) this.#discard(target);
      if (existsSync(target)) rmSync(temporary, { recursive: true, force: true });
      else renameSync(temporary, target);
      syncPath(this.#directory);
      const names = this.#names();
      if (full !== undefined && names.get(full) !== identity) {
        names.set(full, identity);
        this.#writeNames(names);
      }
      return this.#open(identity, names);
    });
  }

  async #isDamaged(directory: string): Promise<boolean> {
    try {
      await verifyImage(directory);
      return false;
    } catch (error) {
      if (error instanceof SealError) return true;
      throw error;
    }
  }

  #open(identity: Digest, names: ReadonlyMap<string, Digest>): SealedImage {
    const directory = join(this.#directory, hexOf(identity));
    const record = readRecord(directory);
    if (record.identity !== identity) {
      throw new SealError("IMAGE_DAMAGED", "malformed", `${directory}/image.json is of ${record.identity}`, {
        hint: "remove the directory and build the image again",
      });
    }
    const manifest = decodeManifest(
      readSmall(join(directory, "manifest.json")),
      join(directory, "manifest.json"),
    );
    const own = [...names].filter(([, of]) => of === identity).map(([name]) => name);
    return { identity, directory, record, manifest, names: own.sort() };
  }

  #byName(reference: string, names: ReadonlyMap<string, Digest>): string | undefined {
    let full: string;
    try {
      full = parseName(reference);
    } catch {
      return undefined; // not a name; an identity perhaps
    }
    return names.has(full) ? full : undefined;
  }

  #find(reference: string, names: ReadonlyMap<string, Digest>): Digest {
    const byName = this.#byName(reference, names);
    const named = byName === undefined ? undefined : names.get(byName);
    if (named !== undefined && existsSync(join(this.#directory, hexOf(named)))) return named;
    const prefix = identityPrefix(reference);
    if (prefix !== undefined) {
      const found = readdirSync(this.#directory).filter((e) => IMAGE.test(e) && e.startsWith(prefix));
      if (found.length === 1) return `sha256:${found[0]}` as Digest;
      if (found.length > 1) {
        throw new SealError("IMAGE_AMBIGUOUS", "usage", `${found.length} images begin with ${prefix}`, {
          hint: "give more digits",
        });
      }
    } else {
      parseName(reference);
    }
    throw new SealError("IMAGE_UNKNOWN", "usage", `there is no image ${JSON.stringify(reference)}`, {
      hint: "shelter images lists what is there; shelter build makes one",
    });
  }

  #names(): Map<string, Digest> {
    const path = join(this.#directory, "names.json");
    let text: string;
    try {
      text = readFileSync(path, "utf8");
    } catch (error) {
      if (error instanceof Error && "code" in error && error.code === "ENOENT") return new Map();
      throw error;
    }
    const json = parseJson(text, path);
    if (json === null || typeof json !== "object" || Array.isArray(json)) {
      throw new SealError("IMAGE_DAMAGED", "malformed", `${path} is not an object of names`);
    }
    return new Map(
      Object.entries(json as JsonObject).map(([name, of]) => [parseName(name), parseDigest(of)]),
    );
  }

  #writeNames(names: ReadonlyMap<string, Digest>): void {
    const sorted = [...names].sort(([a], [b]) => (a < b ? -1 : 1));
    replaceFile(
      join(this.#directory, "names.json"),
      `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`,
    );
  }

  /** Out of sight at once, then file by file. */
  #discard(directory: string): void {
    const trash = mkdtempSync(
      join(this.#directory, `.trash-${processMark(process.pid) ?? `${process.pid}-0`}.`),
    );
    renameSync(directory, join(trash, "image"));
    rmSync(trash, { recursive: true, force: true });
  }

  #sweep(): void {
    for (const entry of readdirSync(this.#directory)) {
      const match = TEMPORARY.exec(entry);
      if (match === null || processMark(Number(match[1])) === `${match[1]}-${match[2]}`) continue;
      rmSync(join(this.#directory, entry), { recursive: true, force: true });
    }
  }
}

function readSmall(path: string): Uint8Array {
  let size: number;
  try {
    size = lstatSync(path).size;
  } catch (cause) {
    throw new SealError("IMAGE_DAMAGED", "malformed", `the image has no readable ${path}`, { cause });
  }
  if (size > 512 * 1024) throw new SealError("IMAGE_DAMAGED", "malformed", `${path} has ${size} bytes`);
  return readFileSync(path);
}

/** `image.json` of an image's directory. */
export function readRecord(directory: string): ImageRecord {
  const path = join(directory, "image.json");
  return decodeRecord(readSmall(path), path);
}

/** Checks every file of an image against its digest; returns what was checked. */
export async function verifyImage(directory: string): Promise<readonly ImageFile[]> {
  const record = readRecord(directory);
  const checked: ImageFile[] = [];
  for (const [name, expected] of Object.entries(record.files) as [
    ImageFile,
    { digest: Digest; size: number },
  ][]) {
    const path = join(directory, name);
    const size = lstatSync(path, { throwIfNoEntry: false })?.size;
    if (size === undefined) throw new SealError("IMAGE_DAMAGED", "malformed", `${path} is gone`);
    const digest = size === expected.size ? await digestFile(path) : undefined;
    if (digest !== expected.digest) {
      const have = digest ?? `${size} bytes`;
      const want = digest === undefined ? `${expected.size} bytes` : expected.digest;
      throw new SealError(
        "IMAGE_DAMAGED",
        "malformed",
        `${path} was altered: expected ${want}, have ${have}`,
        {
          hint: "build the image again: it is replaced",
        },
      );
    }
    checked.push(name);
  }
  return checked;
}
