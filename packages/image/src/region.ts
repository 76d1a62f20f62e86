import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { ImageError } from "./errors.ts";

/** What tells whether a local file is still the one looked at before. */
export interface FileIdentity {
  readonly dev: bigint;
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

/** Whether two looks at a file saw the same state of the same file. */
export function sameIdentity(a: FileIdentity, b: FileIdentity): boolean {
  return (
    a.dev === b.dev &&
    a.ino === b.ino &&
    a.size === b.size &&
    a.mtimeNs === b.mtimeNs &&
    a.ctimeNs === b.ctimeNs
  );
}

/**
 * One local file, looked at several times: opened when needed, and refused when it is no longer the file
 * (or no longer in the state) that the first look saw.
 */
export class LocalFile {
  readonly path: string;
  #identity: FileIdentity | undefined;

  constructor(path: string) {
    this.path = path;
  }

  /** Opens the file for reading; anything but a regular file is refused. */
  async open(): Promise<FileHandle> {
    let handle: FileHandle;
    try {
      // O_NONBLOCK: opening a fifo must not wait for a writer
      handle = await open(this.path, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch (cause) {
      throw new ImageError("SOURCE_NOT_FOUND", `cannot open ${this.path}`, { cause });
    }
    try {
      await this.check(handle);
    } catch (error) {
      await handle.close();
      throw error;
    }
    return handle;
  }

  /** Refuses the file when it changed since the first look; called again when reading has ended. */
  async check(handle: FileHandle): Promise<void> {
    const stat = await handle.stat({ bigint: true });
    if (!stat.isFile()) throw new ImageError("SOURCE_UNSUPPORTED", `${this.path} is not a regular file`);
    const { dev, ino, size, mtimeNs, ctimeNs } = stat;
    const now: FileIdentity = { dev, ino, size, mtimeNs, ctimeNs };
    this.#identity ??= now;
    if (!sameIdentity(this.#identity, now)) {
      throw new ImageError("SOURCE_CHANGED", `${this.path} changed while it was being read`, {
        hint: "Run the command again when nothing writes to the file.",
      });
    }
  }

  /** The whole file as a region. */
  async whole(): Promise<Region> {
    const handle = await this.open();
    try {
      const { size } = await handle.stat();
      return { file: this, offset: 0, size };
    } finally {
      await handle.close();
    }
  }
}

/** A run of bytes of a local file: a blob of its own, or a member of an archive that was not compressed. */
export interface Region {
  readonly file: LocalFile;
  readonly offset: number;
  readonly size: number;
}

/** The bytes of a region, which must not be larger than `max`; `what` names it in the error. */
export async function readRegion(region: Region, max: number, what: string): Promise<Buffer> {
  if (region.size > max) {
    throw new ImageError("LIMIT_EXCEEDED", `${what} has ${region.size} bytes, at most ${max} are accepted`);
  }
  const handle = await region.file.open();
  try {
    const bytes = Buffer.alloc(region.size);
    let at = 0;
    while (at < bytes.length) {
      const { bytesRead } = await handle.read(bytes, at, bytes.length - at, region.offset + at);
      if (bytesRead === 0)
        throw new ImageError("TAR_TRUNCATED", `${what} ends after ${at} of ${region.size} bytes`);
      at += bytesRead;
    }
    await region.file.check(handle);
    return bytes;
  } finally {
    await handle.close();
  }
}
