import { ImageError } from "./errors.ts";
import { detectCompression, openFeed } from "./feed.ts";
import { DEFAULT_LIMITS, MAX_ARCHIVE_MEMBERS } from "./limits.ts";
import { type RawName, rawName, showName } from "./name.ts";
import { LocalFile, type Region } from "./region.ts";
import { TarReader } from "./tar/reader.ts";

/** Where the files of an outer archive (docker save, oci-archive) lie in it; nothing is unpacked. */
export interface ArchiveIndex {
  readonly path: string;
  /** The region of a member by its name, links followed; undefined where there is none. */
  find(name: string): Region | undefined;
}

/** Headers stand far apart here, so little is read at once. */
const WINDOW_BYTES = 16 * 1024;
const MAX_LINKS = 8;

/** Reads the headers of an uncompressed archive. */
export async function indexArchive(path: string): Promise<ArchiveIndex> {
  const file = new LocalFile(path);
  const whole = await file.whole();
  const compression = await detectCompression(whole);
  if (compression !== "none") {
    throw new ImageError("SOURCE_UNSUPPORTED", `${path} is compressed as a whole (${compression})`, {
      hint: `Unpack it first: ${compression === "gzip" ? "gunzip" : "unzstd"} ${path}; layers inside may stay compressed.`,
    });
  }
  const regions = new Map<RawName, Region>();
  const links = new Map<RawName, RawName>();
  const feed = await openFeed(whole, "none", {
    what: path,
    limits: { ...DEFAULT_LIMITS, layerBytes: Number.MAX_SAFE_INTEGER },
  });
  try {
    const reader = new TarReader(feed, path, WINDOW_BYTES);
    let count = 0;
    for (let entry = await reader.next(); entry !== undefined; entry = await reader.next()) {
      if (++count > MAX_ARCHIVE_MEMBERS) {
        throw new ImageError("LIMIT_EXCEEDED", `${path} has more than ${MAX_ARCHIVE_MEMBERS} files`);
      }
      const name = join("", entry.name);
      if (name === undefined) {
        throw new ImageError("ENTRY_REFUSED", `${path}: ${showName(entry.name)} leaves the archive`);
      }
      if (entry.type === "directory") continue;
      if (regions.has(name) || links.has(name)) {
        throw new ImageError("ENTRY_REFUSED", `${path} has ${showName(entry.name)} twice`);
      }
      if (entry.type === "file") {
        if (entry.pieces !== undefined) {
          throw new ImageError("SOURCE_UNSUPPORTED", `${path}: ${showName(entry.name)} is stored sparse`);
        }
        regions.set(name, { file, offset: reader.offset, size: entry.size });
      } else if (entry.type === "symlink" || entry.type === "link") {
        // docker save before 25 stores a layer used twice as a symlink to the first
        const target = join(
          entry.type === "link" ? "" : name.slice(0, name.lastIndexOf("/") + 1),
          entry.linkName,
        );
        if (target === undefined) {
          throw new ImageError("ENTRY_REFUSED", `${path}: link ${showName(entry.name)} leaves the archive`);
        }
        links.set(name, target);
      } else {
        throw new ImageError(
          "ENTRY_REFUSED",
          `${path}: ${showName(entry.name)} is a ${entry.type} device or fifo`,
        );
      }
    }
  } finally {
    await feed.close();
  }
  return {
    path,
    find(name) {
      let at = join("", rawName(name));
      for (let hops = 0; at !== undefined && hops <= MAX_LINKS; hops++) {
        const region = regions.get(at);
        if (region !== undefined) return region;
        at = links.get(at);
      }
      return undefined;
    },
  };
}

/** Joins a relative name onto a directory; undefined where it would leave the archive. */
function join(directory: RawName, name: RawName): RawName | undefined {
  if (name.startsWith("/")) return undefined;
  const parts: RawName[] = [];
  for (const part of `${directory}/${name}`.split("/")) {
    if (part === "" || part === ".") continue;
    if (part !== "..") parts.push(part);
    else if (parts.pop() === undefined) return undefined;
  }
  return parts.join("/");
}
