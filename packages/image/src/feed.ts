import { createHash, type Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { constants, createGunzip, createZstdDecompress, type Gunzip, type ZstdDecompress } from "node:zlib";
import { type Digest, finishDigest } from "@shelter/base";
import { ImageError } from "./errors.ts";
import { type FlattenLimits, RATIO_FLOOR } from "./limits.ts";
import type { Region } from "./region.ts";

/** Bytes in order, from front to back, into the caller's buffer. */
export interface Feed {
  /** Fills part of `target` from `at` on; 0 at the end. */
  read(target: Buffer, at: number): Promise<number>;
  /** Passes over bytes without reading them; absent where they have to be read. */
  skip?(count: number): void;
  /** After the end was read: refuses what does not match its digests, or changed meanwhile. */
  finish(): Promise<void>;
  /** Releases the file, at any time. */
  close(): Promise<void>;
}

/** How a layer's bytes are packed. */
export type Compression = "none" | "gzip" | "zstd";

/** What a feed checks while it reads. */
export interface FeedChecks {
  /** Names the layer in errors. */
  readonly what: string;
  /** Digest of the bytes as stored. */
  readonly blob?: Digest | undefined;
  /** Digest of the bytes unpacked (an image's diff id). */
  readonly content?: Digest | undefined;
  readonly limits: Pick<FlattenLimits, "layerBytes" | "ratio">;
}

/** Bytes handed to the decompressor at once. */
const INPUT_BYTES = 128 * 1024;
/** Bytes a decompressor hands back at once. */
const OUTPUT_BYTES = 256 * 1024;
/** zstd's window, which is memory: 128 MiB is the largest a plain `zstd -d` takes too. */
const MAX_ZSTD_WINDOW_LOG = 27;

/** Tells a region's compression by its first bytes, as containerd does. */
export async function detectCompression(region: Region): Promise<Compression> {
  const handle = await region.file.open();
  try {
    const magic = Buffer.alloc(4);
    const { bytesRead } = await handle.read(magic, 0, Math.min(4, region.size), region.offset);
    if (bytesRead >= 2 && magic[0] === 0x1f && magic[1] === 0x8b) return "gzip";
    if (bytesRead === 4) {
      const word = magic.readUInt32LE(0);
      // RFC 8878: a frame, or one of the sixteen skippable frames
      if (word === 0xfd2fb528 || (word & 0xfffffff0) >>> 0 === 0x184d2a50) return "zstd";
    }
    return "none";
  } finally {
    await handle.close();
  }
}

/** Opens a region's bytes, unpacked. With digests to check, everything must be read and `finish` called. */
export async function openFeed(region: Region, compression: Compression, checks: FeedChecks): Promise<Feed> {
  if (compression === "none" && region.size > checks.limits.layerBytes) throw tooLarge(checks);
  const handle = await region.file.open();
  return compression === "none"
    ? new PlainFeed(handle, region, checks)
    : new PackedFeed(handle, region, compression, checks);
}

class PlainFeed implements Feed {
  readonly #handle: FileHandle;
  readonly #region: Region;
  readonly #checks: FeedChecks;
  readonly #hash: Hash | undefined;
  #at = 0;

  constructor(handle: FileHandle, region: Region, checks: FeedChecks) {
    this.#handle = handle;
    this.#region = region;
    this.#checks = checks;
    if (checks.blob !== undefined || checks.content !== undefined) this.#hash = createHash("sha256");
    else this.skip = (count: number) => this.#pass(count);
  }

  skip?: (count: number) => void;

  #pass(count: number): void {
    if (count > this.#region.size - this.#at) throw endsInside(this.#checks.what, this.#region.size);
    this.#at += count;
  }

  async read(target: Buffer, at: number): Promise<number> {
    const want = Math.min(target.length - at, this.#region.size - this.#at);
    if (want === 0) return 0;
    const { bytesRead } = await this.#handle.read(target, at, want, this.#region.offset + this.#at);
    if (bytesRead === 0) throw endsInside(this.#checks.what, this.#at);
    this.#at += bytesRead;
    this.#hash?.update(target.subarray(at, at + bytesRead));
    return bytesRead;
  }

  async finish(): Promise<void> {
    await this.#region.file.check(this.#handle);
    if (this.#hash === undefined) return;
    const found = finishDigest(this.#hash);
    expectDigest(this.#checks.what, "blob", this.#checks.blob, found);
    expectDigest(this.#checks.what, "content", this.#checks.content, found);
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }
}

/** gzip (any count of members) or zstd (any count of frames), unpacked while reading. */
class PackedFeed implements Feed {
  readonly #handle: FileHandle;
  readonly #region: Region;
  readonly #compression: "gzip" | "zstd";
  readonly #checks: FeedChecks;
  readonly #blobHash: Hash | undefined;
  readonly #contentHash: Hash | undefined;
  readonly #input = Buffer.allocUnsafeSlow(INPUT_BYTES);
  readonly #output: AsyncGenerator<Buffer, void, undefined>;
  #carry: Buffer = this.#input.subarray(0, 0);
  #left: Buffer = this.#carry;
  #taken = 0;
  #given = 0;

  constructor(handle: FileHandle, region: Region, compression: "gzip" | "zstd", checks: FeedChecks) {
    this.#handle = handle;
    this.#region = region;
    this.#compression = compression;
    this.#checks = checks;
    if (checks.blob !== undefined) this.#blobHash = createHash("sha256");
    if (checks.content !== undefined) this.#contentHash = createHash("sha256");
    this.#output = this.#unpack();
  }

  async read(target: Buffer, at: number): Promise<number> {
    while (this.#left.length === 0) {
      release(this.#left);
      const next = await this.#output.next();
      if (next.done === true) return 0;
      this.#left = next.value;
      this.#given += next.value.length;
      this.#judge();
      this.#contentHash?.update(next.value);
    }
    const count = Math.min(this.#left.length, target.length - at);
    this.#left.copy(target, at, 0, count);
    this.#left = this.#left.subarray(count);
    return count;
  }

  #judge(): void {
    const { limits, what } = this.#checks;
    if (this.#given > limits.layerBytes) throw tooLarge(this.#checks);
    if (this.#given > RATIO_FLOOR && this.#given > limits.ratio * this.#taken) {
      throw new ImageError(
        "LIMIT_EXCEEDED",
        `${what} unpacks to more than ${limits.ratio} times its size (${this.#given} bytes from ${this.#taken})`,
      );
    }
  }

  async *#unpack(): AsyncGenerator<Buffer, void, undefined> {
    do {
      const engine =
        this.#compression === "gzip"
          ? createGunzip({ chunkSize: OUTPUT_BYTES })
          : createZstdDecompress({
              chunkSize: OUTPUT_BYTES,
              params: { [constants.ZSTD_d_windowLogMax]: MAX_ZSTD_WINDOW_LOG },
            });
      let failure: unknown;
      const pumped = this.#pump(engine).catch((error: unknown) => {
        failure = error;
        engine.destroy();
      });
      try {
        for await (const chunk of engine) yield chunk as Buffer;
      } catch (cause) {
        throw failure instanceof ImageError
          ? failure
          : new ImageError("COMPRESSION_BROKEN", `${this.#checks.what} is broken ${this.#compression}`, {
              cause,
            });
      } finally {
        engine.destroy();
        await pumped;
      }
    } while (this.#carry.length > 0 || this.#taken < this.#region.size);
  }

  /** Feeds one member or frame; what stands behind its end stays in `#carry` for the next. */
  async #pump(engine: Gunzip | ZstdDecompress): Promise<void> {
    let sent = 0;
    for (;;) {
      if (this.#carry.length === 0) this.#carry = await this.#fetch();
      if (this.#carry.length === 0) {
        engine.end();
        return;
      }
      const piece = this.#carry;
      await new Promise<void>((resolve, reject) => {
        // a destroyed engine never calls back
        const gone = (): void => reject(new Error("decompressor closed"));
        engine.once("close", gone);
        engine.write(piece, (error) => {
          engine.off("close", gone);
          if (error) reject(error);
          else resolve();
        });
      });
      sent += piece.length;
      const unused = sent - engine.bytesWritten;
      this.#carry = piece.subarray(piece.length - unused);
      if (unused > 0) return;
    }
  }

  async #fetch(): Promise<Buffer> {
    const want = Math.min(this.#input.length, this.#region.size - this.#taken);
    if (want === 0) return this.#input.subarray(0, 0);
    const { bytesRead } = await this.#handle.read(this.#input, 0, want, this.#region.offset + this.#taken);
    if (bytesRead === 0) throw endsInside(this.#checks.what, this.#taken);
    this.#taken += bytesRead;
    const bytes = this.#input.subarray(0, bytesRead);
    this.#blobHash?.update(bytes);
    return bytes;
  }

  async finish(): Promise<void> {
    await this.#region.file.check(this.#handle);
    const { what, blob, content } = this.#checks;
    if (this.#blobHash !== undefined) expectDigest(what, "blob", blob, finishDigest(this.#blobHash));
    if (this.#contentHash !== undefined)
      expectDigest(what, "content", content, finishDigest(this.#contentHash));
  }

  async close(): Promise<void> {
    await this.#output.return();
    await this.#handle.close();
  }
}

/**
 * Frees a decompressor's buffer when its last byte was used, instead of leaving hundreds of them to the
 * garbage collector: the engine takes a new buffer once one is full.
 */
function release(used: Buffer): void {
  const { buffer } = used;
  if (
    buffer instanceof ArrayBuffer &&
    used.byteOffset === buffer.byteLength &&
    buffer.byteLength === OUTPUT_BYTES
  ) {
    buffer.transfer(0);
  }
}

function expectDigest(what: string, of: string, expected: Digest | undefined, found: Digest): void {
  if (expected !== undefined && expected !== found) {
    throw new ImageError("DIGEST_MISMATCH", `${what}: ${of} digest is ${found}, expected ${expected}`);
  }
}

function endsInside(what: string, at: number): ImageError {
  return new ImageError("TAR_TRUNCATED", `${what} ends unexpectedly at byte ${at}`);
}

function tooLarge(checks: FeedChecks): ImageError {
  return new ImageError(
    "LIMIT_EXCEEDED",
    `${checks.what} unpacks to more than ${checks.limits.layerBytes} bytes`,
  );
}
