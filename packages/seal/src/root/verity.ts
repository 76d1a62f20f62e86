import { createHash } from "node:crypto";
import { closeSync, fstatSync, openSync, readSync, statSync } from "node:fs";
import { SealError } from "../errors.ts";
import { startTool } from "../tool.ts";
import { BLOCK } from "./squashfs.ts";

/** What the manifest says of a hash tree. */
export type Verity = {
  readonly rootHash: string;
  readonly salt: string;
  readonly dataBlocks: number;
  readonly hashSize: number;
};

/** In the tree's super block; the kernel ignores it, and it must be the same in every build. */
const UUID = "f3cfd1d2-4ac5-4f7c-8e0b-1c1a5d3f9b60";

const SALT_HEAD = BLOCK;
const SALT_TAIL = 64 * 1024;

/**
 * The salt for a root: the same for the same root, another for another. From its super block and its end, which
 * hold the size and place of every block; so the tree need not wait for the digest of the whole.
 */
export function veritySalt(root: string): string {
  const fd = openSync(root, "r");
  try {
    const { size } = fstatSync(fd);
    const hash = createHash("sha256").update(`shelter verity salt 1\0${size}\0`);
    const buffer = Buffer.alloc(SALT_TAIL);
    for (const [from, to] of [
      [0, Math.min(size, SALT_HEAD)],
      [Math.max(0, size - SALT_TAIL), size],
    ] as const) {
      for (let at = from; at < to; ) {
        const read = readSync(fd, buffer, 0, to - at, at);
        if (read === 0) throw new SealError("TOOL_FAILED", "unavailable", `${root} became shorter`);
        hash.update(buffer.subarray(0, read));
        at += read;
      }
    }
    return hash.digest("hex");
  } finally {
    closeSync(fd);
  }
}

/** Writes the hash tree of a root beside it (dm-verity version 1, sha256, super block first). */
export async function writeVerity(root: string, path: string, signal?: AbortSignal): Promise<Verity> {
  const salt = veritySalt(root);
  const { child, ended } = startTool(
    "veritysetup",
    [
      "format",
      root,
      path,
      `--uuid=${UUID}`,
      `--salt=${salt}`,
      "--hash=sha256",
      "--format=1",
      `--data-block-size=${BLOCK}`,
      `--hash-block-size=${BLOCK}`,
    ],
    { stdio: ["ignore", "pipe", "pipe"], output: path, signal },
  );
  let output = "";
  child.stdout?.setEncoding("utf8").on("data", (text: string) => {
    output += text;
  });
  await ended;
  const rootHash = /^Root hash:\s+([0-9a-f]{64})$/m.exec(output)?.[1];
  const dataBlocks = statSync(root).size / BLOCK;
  if (rootHash === undefined || !new RegExp(`^Data blocks:\\s+${dataBlocks}$`, "m").test(output)) {
    throw new SealError(
      "TOOL_FAILED",
      "bug",
      "veritysetup told no root hash, or of another number of blocks",
    );
  }
  return { rootHash, salt, dataBlocks, hashSize: statSync(path).size };
}
