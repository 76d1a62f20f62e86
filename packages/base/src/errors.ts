/**
 * What kind of end an error is; the command line maps each kind to its own exit status.
 *
 * - `usage`: the person asked for something that does not exist or does not fit together.
 * - `malformed`: data from outside does not have the form it claims.
 * - `refused`: well-formed, and not allowed (a policy, a manifest, a failed verification).
 * - `unavailable`: something this needs is missing or does not answer; trying later or elsewhere may work.
 * - `bug`: our own mistake.
 */
export type ErrorKind = "usage" | "malformed" | "refused" | "unavailable" | "bug";

/** Base of every error Shelter raises on purpose: a stable code, its kind and, where known, the way out. */
export class ShelterError<Code extends string = string> extends Error {
  readonly code: Code;
  readonly kind: ErrorKind;
  /** What the person can do about it, one sentence; undefined where nothing is known. */
  readonly hint: string | undefined;

  constructor(
    code: Code,
    kind: ErrorKind,
    message: string,
    options: { cause?: unknown; hint?: string } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.kind = kind;
    this.hint = options.hint;
  }
}

/** Exit status of the `shelter` command for each kind of error (125 is what Docker uses for its own failures). */
export const EXIT_STATUS: Readonly<Record<ErrorKind, number>> = {
  usage: 2,
  malformed: 65,
  refused: 77,
  unavailable: 69,
  bug: 70,
};

/** The message of anything thrown, with the messages of its causes behind colons. */
export function describe(error: unknown): string {
  const parts: string[] = [];
  for (let e: unknown = error; e !== undefined && parts.length < 8; e = (e as { cause?: unknown }).cause) {
    const text = e instanceof Error ? e.message : String(e);
    if (!parts.some((p) => p.includes(text))) parts.push(text);
    if (!(e instanceof Error)) break;
  }
  return parts.join(": ");
}
