import { spawnSync } from "node:child_process";
import { constants } from "node:os";
import { pipeline } from "node:stream/promises";
import { ShelterError } from "@shelter/base";
import type { GuestProcess, TerminalSize } from "@shelter/guest";

/** Signals a shell sends a program: passed on instead of ending this command. SIGWINCH goes as a resize. */
const FORWARDED: readonly NodeJS.Signals[] = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"];

/** Refuses a terminal where standard input is none, as Docker does. */
export function requireTerminal(options: { readonly tty?: boolean; readonly interactive?: boolean }): void {
  if (options.tty === true && options.interactive === true && !process.stdin.isTTY) {
    throw new ShelterError(
      "NOT_A_TERMINAL",
      "usage",
      "-t together with -i needs standard input to be a terminal",
      {
        hint: "leave -t out when input comes from a pipe or file",
      },
    );
  }
}

/** The size of this command's terminal, where it has one. */
export function terminalSize(): TerminalSize | undefined {
  const { rows, columns } = process.stdout.isTTY ? process.stdout : process.stderr;
  return rows > 0 && columns > 0 ? { rows, cols: columns } : undefined;
}

/** Signals that arrive before there is a program to send them to, and then go to it. */
export class SignalRelay implements Disposable {
  readonly #handlers: (readonly [NodeJS.Signals, () => void])[] = [];
  #early: number | undefined;
  #deliver: ((signal: number) => void) | undefined;

  constructor() {
    for (const name of FORWARDED) {
      const handler = (): void => {
        const signal = constants.signals[name];
        if (this.#deliver !== undefined) this.#deliver(signal);
        else if (this.#early === undefined) this.#early = signal;
        // Asked twice before anything could take the signal: give up at once; machines die with this process.
        else process.exit(128 + signal);
      };
      process.on(name, handler);
      this.#handlers.push([name, handler]);
    }
  }

  /** From now on signals go here; one that came early goes first. */
  connect(deliver: (signal: number) => void): void {
    this.#deliver = deliver;
    if (this.#early !== undefined) deliver(this.#early);
  }

  [Symbol.dispose](): void {
    for (const [name, handler] of this.#handlers) process.removeListener(name, handler);
  }
}

/**
 * Hands every key and every byte through: the guest's terminal does what a terminal does. Node's own raw mode still
 * turns line feeds into two characters on the way out (libuv keeps ONLCR), so stty does it. Returns the way back.
 */
function rawTerminal(): () => void {
  const stty = (...args: string[]): string =>
    spawnSync("stty", args, { stdio: ["inherit", "pipe", "ignore"], encoding: "utf8" }).stdout.trim();
  const before = stty("-g");
  const restore = (): void => {
    stty(before);
  };
  process.once("exit", restore);
  stty("raw", "-echo");
  return () => {
    process.removeListener("exit", restore);
    restore();
  };
}

/**
 * Joins this command's standard streams to a process of a guest until its output has ended. A reader of ours that
 * goes away is a broken pipe for the process; the end of our input is the end of its input.
 */
export async function joinStreams(
  guest: GuestProcess,
  options: { readonly stdin: boolean; readonly tty: boolean },
): Promise<void> {
  const { stdin, stdout, stderr } = process;
  // What a closed pipe means is for the process in the guest to decide, so nobody else may end us for it.
  for (const stream of [stdout, stderr]) {
    stream.removeAllListeners("error");
    stream.on("error", () => {});
  }
  const raw = options.tty && options.stdin && stdin.isTTY;
  const resize = (): void => {
    const size = terminalSize();
    if (size !== undefined) guest.resize(size);
  };
  const cooked = raw ? rawTerminal() : undefined;
  if (options.stdin) {
    guest.stdin.on("error", () => {});
    stdin.on("error", () => guest.stdin.end());
    stdin.pipe(guest.stdin);
  }
  if (options.tty) process.on("SIGWINCH", resize);
  try {
    await Promise.all([
      pipeline(guest.stdout, stdout, { end: false }).catch(() => guest.stdout.destroy()),
      pipeline(guest.stderr, stderr, { end: false }).catch(() => guest.stderr.destroy()),
    ]);
  } finally {
    process.removeListener("SIGWINCH", resize);
    cooked?.();
    if (options.stdin) {
      stdin.unpipe(guest.stdin);
      // An input nobody reads any more would keep the command alive.
      stdin.destroy();
    }
  }
}

/** The number of a signal by name (with or without SIG) or number. */
export function signalNumber(text: string): number {
  const signals = constants.signals as Readonly<Record<string, number>>;
  const name = text.toUpperCase();
  const number = /^\d{1,2}$/.test(text) ? Number(text) : (signals[name] ?? signals[`SIG${name}`]);
  if (number === undefined || number < 1 || number > 64) {
    throw new ShelterError("SIGNAL_UNKNOWN", "usage", `there is no signal ${JSON.stringify(text)}`, {
      hint: "use a name such as TERM or a number from 1 to 64",
    });
  }
  return number;
}
