import { lstatSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { VmError } from "./errors.ts";

/** Longest path a Unix socket takes (sun_path, with its NUL). */
const MAX_SOCKET_PATH = 107;

/** Sockets of one instance. */
export interface RuntimePaths {
  readonly directory: string;
  readonly agent: string;
  readonly monitor: string;
  readonly tpm: string;
  readonly control: string;
}

/**
 * The directory of sockets: `$XDG_RUNTIME_DIR/shelter`, else `/tmp/shelter-UID`. Short, because a socket's
 * path is; ours alone, which in /tmp has to be checked and not only wished for.
 */
export function runtimeDirectory(env: NodeJS.ProcessEnv = process.env): string {
  const uid = process.getuid?.() ?? 0;
  const xdg = env["XDG_RUNTIME_DIR"];
  const path = xdg !== undefined && xdg !== "" ? join(xdg, "shelter") : `/tmp/shelter-${uid}`;
  try {
    mkdirSync(path, { recursive: xdg !== undefined, mode: 0o700 });
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== "EEXIST") {
      throw new VmError("RUNTIME_DIRECTORY", "unavailable", `cannot make ${path}`, { cause });
    }
  }
  const stat = lstatSync(path);
  if (!stat.isDirectory() || stat.uid !== uid || (stat.mode & 0o077) !== 0) {
    throw new VmError("RUNTIME_DIRECTORY", "refused", `${path} is not a directory of ours alone`, {
      hint: `remove ${path}, or set XDG_RUNTIME_DIR to a directory of mode 0700`,
    });
  }
  return path;
}

/** Where the sockets of an instance are. */
export function runtimePaths(id: string): RuntimePaths {
  const directory = join(runtimeDirectory(), id.slice(0, 16));
  const paths: RuntimePaths = {
    directory,
    agent: join(directory, "agent"),
    monitor: join(directory, "monitor"),
    tpm: join(directory, "tpm"),
    control: join(directory, "control"),
  };
  if (Buffer.byteLength(paths.control) > MAX_SOCKET_PATH) {
    throw new VmError("RUNTIME_DIRECTORY", "usage", `${directory} is too long for a socket's path`, {
      hint: "set XDG_RUNTIME_DIR to a shorter directory",
    });
  }
  return paths;
}

/** Makes the directory of an instance's sockets, empty. */
export function makeRuntime(id: string): RuntimePaths {
  const paths = runtimePaths(id);
  rmSync(paths.directory, { recursive: true, force: true });
  mkdirSync(paths.directory, { mode: 0o700 });
  return paths;
}

/** Removes the sockets of an instance. */
export function removeRuntime(id: string): void {
  rmSync(runtimePaths(id).directory, { recursive: true, force: true });
}
