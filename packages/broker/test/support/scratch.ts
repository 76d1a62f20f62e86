import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";

/** A directory that goes when the test ends, after whatever still uses it has ended. */
export function scratch(t: TestContext, before: () => Promise<void> | void = () => {}): string {
  // Where syncing costs nothing: what survives a crash is tested with the server, on a real disk.
  const base = existsSync("/dev/shm") ? "/dev/shm" : tmpdir();
  const path = mkdtempSync(join(base, "shelter-broker-"));
  t.after(async () => {
    await before();
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

/** A clock that stands still until it is moved. */
export function clock(start = "2026-11-01T12:00:00.000Z"): { now: () => Date; pass: (ms: number) => void } {
  let at = Date.parse(start);
  return {
    now: () => new Date(at),
    pass: (ms) => {
      at += ms;
    },
  };
}
