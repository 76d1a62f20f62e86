import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { SealError } from "../errors.ts";

const WAIT_MS = 10_000; // what is done under the lock takes milliseconds

/**
 * Does something while no other process holds the store's lock. SQLite's own locking, because it is the kernel's:
 * gone with the process that held it, and nothing to judge stale.
 */
export function underLock<T>(directory: string, work: () => T): T {
  const database = new DatabaseSync(join(directory, "lock.db"), { timeout: WAIT_MS });
  try {
    try {
      database.exec("BEGIN EXCLUSIVE");
    } catch (cause) {
      throw new SealError("STORE_BUSY", "unavailable", `cannot lock the image store in ${directory}`, {
        cause,
      });
    }
    return work();
  } finally {
    database.close();
  }
}
