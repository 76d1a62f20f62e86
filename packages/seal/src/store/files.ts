import { closeSync, fsyncSync, openSync, readdirSync } from "node:fs";
import { join } from "node:path";

/** Makes sure a directory and the files in it survive a crash from here on. */
export function syncDirectory(directory: string): void {
  for (const name of readdirSync(directory)) syncPath(join(directory, name));
  syncPath(directory);
}

/** Writes a file's or a directory's content to the disk. */
export function syncPath(path: string): void {
  const fd = openSync(path, "r");
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
