import { createHash } from "node:crypto";
import { statSync } from "node:fs";
import { type Digest, toHex } from "@shelter/base";
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

/** The salt for a root: differs between roots, and is the same for the same root. */
export function veritySalt(root: Digest): string {
  return toHex(createHash("sha256").update("shelter verity salt 1\0").update(root).digest());
}

/** Writes the hash tree of a root beside it (dm-verity version 1, sha256, super block first). */
export async function writeVerity(
  root: string,
  digest: Digest,
  path: string,
  signal?: AbortSignal,
): Promise<Verity> {
  const salt = veritySalt(digest);
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
