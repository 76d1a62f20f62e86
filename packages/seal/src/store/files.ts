import { closeSync, fsyncSync, openSync, readdirSync } from "node:fs";
import { open } from "node:fs/promises";
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

/** As `syncPath`, beside other work: what is on the disk early need not be waited for at the end. */
export async function flushFile(path: string): Promise<void> {
  const file = await open(path, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
