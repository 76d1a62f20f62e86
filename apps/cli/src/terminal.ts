import { stripVTControlCharacters } from "node:util";

/** Whether a stream is a terminal that wants colours (https://no-color.org). */
export function wantsColour(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true && !process.env["NO_COLOR"] && process.env["TERM"] !== "dumb";
}

type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";
const CODES: Readonly<Record<Style, number>> = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 };

/** Text in a style where the stream is a terminal; plain otherwise. */
export function styled(style: Style, text: string, stream: NodeJS.WriteStream = process.stdout): string {
  return wantsColour(stream) ? `\x1b[${CODES[style]}m${text}\x1b[0m` : text;
}

/** Text from outside made safe to print: control characters become visible, so it cannot drive the terminal. */
export function printable(text: string): string {
  return text.replace(
    /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g,
    (c) => (c === "\u001b" ? "\\e" : `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}`),
  );
}

/** Rows under headings, columns two spaces apart; the last column is never padded. */
export function table(headings: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [headings, ...rows];
  const widths = headings.map((_, i) => Math.max(...all.map((row) => width(row[i] ?? ""))));
  return all
    .map((row) =>
      row
        .map((cell, i) => (i === row.length - 1 ? cell : cell + " ".repeat(widths[i]! - width(cell))))
        .join("  ")
        .trimEnd(),
    )
    .map((line) => `${line}\n`)
    .join("");
}

function width(text: string): number {
  let n = 0;
  for (const c of stripVTControlCharacters(text)) n += (c.codePointAt(0) ?? 0) >= 0x2e80 ? 2 : 1;
  return n;
}

/** `12.3 MiB`: binary units, three digits or fewer before the point. */
export function size(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let n = bytes;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return `${unit === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[unit]}`;
}

/** How long ago a time was: `5 seconds ago`, `3 hours ago`. */
export function ago(then: number, now: number): string {
  const steps: readonly (readonly [number, string])[] = [
    [60, "second"],
    [60, "minute"],
    [24, "hour"],
    [7, "day"],
    [Number.POSITIVE_INFINITY, "week"],
  ];
  let n = Math.max(0, Math.floor((now - then) / 1000));
  for (const [limit, unit] of steps) {
    if (n < limit) return `${n} ${unit}${n === 1 ? "" : "s"} ago`;
    n = Math.floor(n / limit);
  }
  return "";
}

/** Prints one JSON document, indented for a terminal. */
export function printJson(value: unknown): void {
  process.stdout.write(`${JSON.stringify(value, null, process.stdout.isTTY ? 2 : 0)}\n`);
}

/** A progress line that rewrites itself on a terminal and says one line a step elsewhere. */
export class Progress {
  readonly #stream: NodeJS.WriteStream;
  readonly #quiet: boolean;
  #step = "";
  #drawn = 0;
  #begun = 0;

  constructor(options: { quiet?: boolean; stream?: NodeJS.WriteStream } = {}) {
    this.#stream = options.stream ?? process.stderr;
    this.#quiet = options.quiet ?? false;
  }

  /** Reports that `done` of `total` bytes of a step are done; a new step name ends the one before. */
  update(step: string, done?: number, total?: number): void {
    if (this.#quiet) return;
    const now = Date.now();
    if (step !== this.#step) {
      this.finish();
      this.#step = step;
      this.#begun = now;
      if (!this.#stream.isTTY) this.#stream.write(`${step}\n`);
    } else if (now - this.#drawn < 80) return;
    if (!this.#stream.isTTY) return;
    this.#drawn = now;
    const share =
      done !== undefined && total
        ? ` ${bar(done / total)} ${size(done)} of ${size(total)}`
        : done
          ? ` ${size(done)}`
          : "";
    this.#stream.write(`\r\x1b[2K${styled("cyan", "…", this.#stream)} ${step}${share}`);
  }

  /** Ends the step under way. */
  finish(): void {
    if (this.#step === "" || this.#quiet) return;
    if (this.#stream.isTTY) {
      const seconds = ((Date.now() - this.#begun) / 1000).toFixed(1);
      const tail = styled("dim", `${seconds} s`, this.#stream);
      this.#stream.write(`\r\x1b[2K${styled("green", "✓", this.#stream)} ${this.#step} ${tail}\n`);
    }
    this.#step = "";
  }

  /** Clears the line under way without calling it done, so that an error can be printed. */
  abandon(): void {
    if (this.#step !== "" && this.#stream.isTTY && !this.#quiet) this.#stream.write("\r\x1b[2K");
    this.#step = "";
  }
}

function bar(share: number): string {
  const cells = Math.round(Math.min(1, Math.max(0, share)) * 20);
  return `${"█".repeat(cells)}${"░".repeat(20 - cells)}`;
}
