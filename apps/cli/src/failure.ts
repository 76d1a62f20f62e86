import { describe, EXIT_STATUS, ShelterError } from "@shelter/base";
import { printable, styled } from "./terminal.ts";

/** The exit status of anything thrown: by kind for our own errors, 70 for a bug. */
export function statusOf(error: unknown): number {
  return error instanceof ShelterError ? EXIT_STATUS[error.kind] : EXIT_STATUS.bug;
}

/** Prints an error for a person (or one JSON object with `--json`) and gives the exit status. */
export function report(error: unknown, json: boolean): number {
  const status = statusOf(error);
  if (json) {
    const body =
      error instanceof ShelterError
        ? { code: error.code, kind: error.kind, message: describe(error), hint: error.hint }
        : { code: "BUG", kind: "bug", message: describe(error) };
    process.stderr.write(`${JSON.stringify({ error: body })}\n`);
    return status;
  }
  const head = styled("red", "shelter:", process.stderr);
  process.stderr.write(`${head} ${printable(describe(error))}\n`);
  if (error instanceof ShelterError) {
    if (error.hint !== undefined) process.stderr.write(`  ${printable(error.hint)}\n`);
  } else if (error instanceof Error && error.stack !== undefined) {
    process.stderr.write(
      `  this is a bug in shelter; please report it with these lines:\n${printable(error.stack)}\n`,
    );
  }
  return status;
}
