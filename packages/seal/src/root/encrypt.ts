import { createCipheriv, createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { type Digest, finishDigest, type SecretBytes } from "@shelter/base";
import { SealError } from "../errors.ts";
import { BLOCK } from "./squashfs.ts";

/** Bytes of a disk key: two AES-256 keys (IEEE 1619, XTS). */
export const DISK_KEY_SIZE = 64;

/** Sectors between two turns of the event loop, so that Ctrl-C and progress come through. */
const SECTORS_AT_ONCE = 1024;

/**
 * Encrypts a file in place as dm-crypt `aes-xts-plain64` with `sector_size:4096 iv_large_sectors` decrypts it,
 * and returns the digest of what it became.
 */
export async function encryptFile(
  path: string,
  key: SecretBytes,
  options: { signal?: AbortSignal | undefined; onBytes?: ((total: number) => void) | undefined } = {},
): Promise<Digest> {
  const bytes = key.reveal();
  if (bytes.byteLength !== DISK_KEY_SIZE) {
    throw new SealError(
      "KEY_MALFORMED",
      "malformed",
      `a disk key has ${DISK_KEY_SIZE} bytes, this one ${bytes.byteLength}`,
    );
  }
  const fd = openSync(path, "r+");
  try {
    const { size } = fstatSync(fd);
    if (size % BLOCK !== 0)
      throw new SealError("TOOL_FAILED", "bug", `${path} is not padded to ${BLOCK} bytes`);
    const hash = createHash("sha256");
    const buffer = Buffer.alloc(SECTORS_AT_ONCE * BLOCK);
    const iv = Buffer.alloc(16);
    for (let offset = 0; offset < size; ) {
      options.signal?.throwIfAborted();
      const length = readSync(fd, buffer, 0, Math.min(buffer.byteLength, size - offset), offset);
      if (length === 0 || length % BLOCK !== 0) {
        throw new SealError("TOOL_FAILED", "unavailable", `${path} changed while it was encrypted`);
      }
      for (let at = 0; at < length; at += BLOCK) {
        // plain64: the sector's number, little-endian; with iv_large_sectors it counts 4096-byte sectors.
        iv.writeBigUInt64LE(BigInt((offset + at) / BLOCK));
        const cipher = createCipheriv("aes-256-xts", bytes, iv);
        cipher.update(buffer.subarray(at, at + BLOCK)).copy(buffer, at);
      }
      const done = buffer.subarray(0, length);
      hash.update(done);
      for (let written = 0; written < length; ) {
        written += writeSync(fd, done, written, length - written, offset + written);
      }
      offset += length;
      options.onBytes?.(offset);
      await new Promise<void>((turn) => setImmediate(turn));
    }
    return finishDigest(hash);
  } finally {
    closeSync(fd);
  }
}
