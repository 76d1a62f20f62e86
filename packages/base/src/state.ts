import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, mkdirSync, openSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

/**
 * The one state directory: `SHELTER_STATE`, else `/var/lib/shelter` for root, else
 * `$XDG_DATA_HOME/shelter` (XDG Base Directory Specification). Created with mode 0700.
 */
export function stateDirectory(env: NodeJS.ProcessEnv = process.env): string {
  const path =
    env["SHELTER_STATE"] ??
    (process.getuid?.() === 0
      ? "/var/lib/shelter"
      : join(env["XDG_DATA_HOME"] ?? join(homedir(), ".local/share"), "shelter"));
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

/**
 * Replaces a file so that a reader sees the old content or the new, never a part, also after a crash:
 * written beside it, synced, renamed over it.
 */
export function replaceFile(path: string, content: string | Uint8Array, mode = 0o600): void {
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`;
  try {
    writeFileSync(temporary, content, { mode, flag: "wx" });
    const fd = openSync(temporary, "r");
    try {
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  }
}
