import { closeSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { describe, ShelterError } from "@shelter/base";
import { findInstance } from "./store.ts";
import { runInstance } from "./supervisor.ts";

// The process of a detached instance: `node supervisor-main.ts INSTANCE-DIRECTORY`. Descriptor 3 takes one JSON
// object when the main process runs or cannot.

const REPORT = 3;
let reported = false;

function report(value: object): void {
  if (reported) return;
  reported = true;
  try {
    writeSync(REPORT, JSON.stringify(value));
    closeSync(REPORT);
  } catch {
    // whoever started us has gone
  }
}

function fail(error: unknown): void {
  const known = error instanceof ShelterError;
  report({
    error: {
      code: known ? error.code : "BUG",
      kind: known ? error.kind : "bug",
      message: describe(error),
      hint: known ? error.hint : undefined,
    },
  });
}

const directory = process.argv[2] ?? "";
try {
  const instance = findInstance(dirname(dirname(directory)), directory.slice(dirname(directory).length + 1));
  const running = await runInstance(instance);
  for (const signal of ["SIGTERM", "SIGINT"] as const) process.on(signal, () => running.stop(10));
  process.on("SIGHUP", () => {});
  // Nobody reads these here; the log and whoever attaches have their own.
  running.main.stdout.resume();
  running.main.stderr.resume();
  running.main.started.then(
    () => report({ ok: true }),
    () => {},
  );
  await running.ended;
} catch (error) {
  fail(error);
  process.exitCode = 1;
}
