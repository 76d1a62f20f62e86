import { spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { flushCompileCache } from "node:module";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { fileURLToPath } from "node:url";
import { type JsonObject, parseJson, ShelterError } from "@shelter/base";
import { tailOf } from "./child.ts";
import type { Instance } from "./config.ts";
import { parseError } from "./control.ts";
import { VmError } from "./errors.ts";

/** The instance's own process holds little: a small heap keeps it that way. */
export const SUPERVISOR_FLAGS: readonly string[] = ["--max-old-space-size=96", "--max-semi-space-size=1"];

/**
 * Runs an instance in a process of its own that outlives this one. Resolves when the main process runs, and
 * rejects with the reason when it does not come to that.
 */
export async function startDetached(instance: Instance): Promise<void> {
  const logPath = join(instance.directory, "supervisor.log");
  const log = openSync(logPath, "a", 0o600);
  flushCompileCache();
  const main = fileURLToPath(new URL("./supervisor-main.ts", import.meta.url));
  const child = spawn(process.execPath, [...SUPERVISOR_FLAGS, main, instance.directory], {
    detached: true,
    cwd: "/",
    // Without it each instance would hold the type stripper and what it made: 40 MiB.
    env: { NODE_COMPILE_CACHE: join(instance.directory, "..", "..", "cache"), ...process.env },
    stdio: ["ignore", log, log, "pipe"],
  });
  closeSync(log);
  const report = child.stdio[3] as Readable;
  const text = await new Promise<string>((resolve, reject) => {
    let all = "";
    child.once("error", reject);
    report.on("data", (piece: Buffer) => {
      all += piece.toString();
    });
    report.on("error", () => {});
    report.on("close", () => resolve(all));
  });
  child.unref();
  let outcome: JsonObject;
  try {
    outcome = parseJson(text, "the report of an instance's process") as JsonObject;
  } catch (cause) {
    throw new VmError(
      "MACHINE_DIED",
      "bug",
      `the instance's process ended at once: ${tailOf(logPath, 600)}`,
      { cause },
    );
  }
  if (outcome["error"] !== undefined) {
    const { code, kind, message, hint } = parseError(outcome["error"]);
    throw new ShelterError(code, kind, message, hint === undefined ? {} : { hint });
  }
}
