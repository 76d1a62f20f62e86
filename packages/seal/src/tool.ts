import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { closeSync, existsSync, fsync, openSync, readFileSync, statfsSync } from "node:fs";
import { delimiter, dirname, join, resolve } from "node:path";
import { describe } from "@shelter/base";
import { SealError } from "./errors.ts";

/** The Debian package of each tool. */
const PACKAGES = { tar2sqfs: "squashfs-tools-ng", veritysetup: "cryptsetup-bin", xz: "xz-utils" } as const;

/** A program of the host that sealing uses. */
export type Tool = keyof typeof PACKAGES;

const MAX_STDERR = 4096;
const SYNC_MS = 500;
const MIN_FREE = 256 * 1024; // two blocks of a squashfs

/** Full path of a tool. An ordinary user's PATH on Debian leaves out the sbin directories. */
export function findTool(tool: Tool, env: NodeJS.ProcessEnv = process.env): string {
  const path = `${env["PATH"] ?? ""}${delimiter}/usr/local/sbin${delimiter}/usr/sbin${delimiter}/sbin${delimiter}/usr/bin`;
  for (const directory of path.split(delimiter)) {
    const candidate = join(directory, tool);
    if (directory !== "" && existsSync(candidate)) return candidate;
  }
  throw new SealError("TOOL_MISSING", "unavailable", `${tool} is not installed`, {
    hint: `apt-get install ${PACKAGES[tool]}`,
  });
}

/** A running tool: its process, and its end. */
export type RunningTool = {
  readonly child: ChildProcess;
  /** Settles when the tool has ended; rejects unless it ended well. Never unhandled. */
  readonly ended: Promise<void>;
};

/** Starts a tool in the C locale; `output` is the file it writes, if it writes one. */
export function startTool(
  tool: Tool,
  args: readonly string[],
  options: { stdio: SpawnOptions["stdio"]; output?: string; signal?: AbortSignal | undefined },
): RunningTool {
  const path = findTool(tool);
  // These tools call a full disk an I/O error, and tar2sqfs removes what it wrote: held open, the file keeps its
  // space until we have looked.
  const held = options.output === undefined ? undefined : openSync(options.output, "a", 0o600);
  const child = spawn(path, args, {
    stdio: options.stdio,
    // SOURCE_DATE_EPOCH: the time tar2sqfs writes into the super block.
    env: { PATH: process.env["PATH"] ?? "/usr/bin:/bin", LC_ALL: "C", SOURCE_DATE_EPOCH: "0" },
  });
  // What is written reaches the disk while more is made, instead of all at the end.
  let busy = false;
  const sync = (fd: number): void => {
    if (busy) return;
    busy = true;
    fsync(fd, () => {
      busy = false;
    });
  };
  const syncing = held === undefined ? undefined : setInterval(() => sync(held), SYNC_MS);
  const abort = (): void => void child.kill("SIGKILL");
  options.signal?.addEventListener("abort", abort, { once: true });
  let stderr = "";
  child.stderr?.setEncoding("utf8").on("data", (text: string) => {
    if (stderr.length < MAX_STDERR) stderr += text;
  });
  const ended = new Promise<void>((done, failed) => {
    child.once("error", (cause) => {
      failed(new SealError("TOOL_FAILED", "unavailable", `cannot start ${tool}`, { cause }));
    });
    // Also behind an error: a child that never was is closed with a negative code.
    child.once("close", (code, signal) => {
      options.signal?.removeEventListener("abort", abort);
      clearInterval(syncing);
      const full = code !== 0 && options.output !== undefined && isFull(options.output);
      if (held !== undefined) closeSync(held);
      if (options.signal?.aborted) failed(aborted());
      else if (code === 0) done();
      else if (full) failed(diskFull(options.output ?? ""));
      else {
        const end = signal === null ? `exit status ${code}` : `signal ${signal}`;
        const last = stderr.trim().split("\n").slice(-3).join("; ");
        failed(
          new SealError(
            "TOOL_FAILED",
            "unavailable",
            `${tool} failed with ${end}${last === "" ? "" : `: ${last}`}`,
          ),
        );
      }
    });
  });
  ended.catch(() => undefined); // whoever awaits it still sees it
  return { child, ended };
}

/** Whether a file's file system has no room for what a tool writes at once. */
function isFull(path: string): boolean {
  try {
    const { bavail, bsize } = statfsSync(dirname(path));
    return bavail * bsize < MIN_FREE;
  } catch {
    return false; // whatever the tool said is the better reason
  }
}

/** The error of a build that was told to end. */
export function aborted(): SealError {
  return new SealError("BUILD_ABORTED", "refused", "the build was interrupted; nothing was kept");
}

/** The error for a file system without room, by a path on it. */
export function diskFull(path: string, cause?: unknown): SealError {
  return new SealError(
    "DISK_FULL",
    "unavailable",
    `no space left on the file system at ${mountPoint(path)}, writing ${path}`,
    { cause, hint: "free space there, or set SHELTER_STATE to a directory on another file system" },
  );
}

/** An error with ENOSPC or EDQUOT as one that names the file system; any other unchanged. */
export function nameDiskFull(error: unknown, path: string): unknown {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  return code === "ENOSPC" || code === "EDQUOT" ? diskFull(path, error) : error;
}

/** Where the file system of a path is mounted. */
function mountPoint(path: string): string {
  const full = resolve(path);
  let best = "/";
  try {
    // proc(5): the fifth field is the mount point, with spaces as \040.
    for (const line of readFileSync("/proc/self/mountinfo", "utf8").split("\n")) {
      const point = (line.split(" ")[4] ?? "").replaceAll("\\040", " ");
      if ((full === point || full.startsWith(`${point}/`)) && point.length > best.length) best = point;
    }
  } catch (error) {
    return `${best} (${describe(error)})`;
  }
  return best;
}
