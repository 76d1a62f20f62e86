import { statSync } from "node:fs";
import type { Writable } from "node:stream";
import { SealError } from "../errors.ts";
import { startTool } from "../tool.ts";

/** Sectors of dm-crypt and blocks of dm-verity; the squashfs is padded to it. */
export const BLOCK = 4096;

/**
 * zstd at level 6: a guest reads and hashes all of its root at each boot, so what a build spends once on a smaller one
 * comes back at every run. A Debian root of 162 MiB: level 3 gives 52.9 MiB, 6 gives 49.6, 9 gives 48.9 in half as
 * much time again.
 */
const COMPRESSOR = ["-c", "zstd", "-X", "level=6"];

/** Arguments of tar2sqfs for a root: reproducible whatever the number of jobs, owners, times and xattrs kept. */
export const TAR2SQFS_ARGS: readonly string[] = [
  "--quiet",
  "--no-skip",
  "--block-size",
  "131072",
  "--dev-block-size",
  String(BLOCK),
  ...COMPRESSOR,
];

const PROGRESS_MS = 100;

/**
 * Makes a squashfs of the tar archive that `writeTar` writes and ends. `onBytes` hears now and then how much of
 * it has been taken.
 */
export async function writeSquashfs(
  writeTar: (stream: Writable) => Promise<void>,
  path: string,
  options: { signal?: AbortSignal | undefined; onBytes?: ((total: number) => void) | undefined } = {},
): Promise<void> {
  const { child, ended } = startTool("tar2sqfs", [...TAR2SQFS_ARGS, "--force", path], {
    stdio: ["pipe", "ignore", "pipe"],
    output: path,
    signal: options.signal,
  });
  const input = child.stdin;
  if (input === null) throw new SealError("TOOL_FAILED", "bug", "tar2sqfs has no standard input");
  input.on("error", () => undefined); // a broken pipe; `ended` tells why it broke
  const timer = setInterval(() => {
    if ("bytesWritten" in input) options.onBytes?.(Number(input.bytesWritten)); // a pipe's end is a net.Socket
  }, PROGRESS_MS);
  try {
    try {
      await writeTar(input);
    } catch (error) {
      // A tool that died took the pipe with it: its end is the reason, not ours. Else the reason is our input.
      const died = child.exitCode !== null || isBrokenPipe(error);
      if (!died) child.kill("SIGKILL");
      const reason = await ended.then(
        () => error,
        (end: unknown) => (died || options.signal?.aborted ? end : error),
      );
      throw reason;
    }
    await ended;
  } finally {
    clearInterval(timer);
  }
  const { size } = statSync(path);
  if (size === 0 || size % BLOCK !== 0) {
    throw new SealError("TOOL_FAILED", "bug", `tar2sqfs wrote ${size} bytes, not a multiple of ${BLOCK}`);
  }
}

function isBrokenPipe(error: unknown): boolean {
  for (let e = error; e instanceof Error; e = e.cause) {
    if ("code" in e && (e.code === "EPIPE" || e.code === "ECONNRESET")) return true;
  }
  return false;
}
