import type { Readable, Writable } from "node:stream";
import { GuestError } from "./errors.ts";
import type { GuestMessage } from "./messages.ts";
import type { Mux } from "./mux.ts";
import { printable } from "./mux.ts";
import type { GuestProcess, ProcessExit, TerminalSize } from "./request.ts";
import type { GuestStream } from "./stream.ts";

/** Stream numbers of a process, as `boot` and `exec` carry them. */
export interface ProcessStreams {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

/** A process of a session: its three streams and its two promises. */
export class SessionProcess implements GuestProcess {
  readonly id: number;
  readonly tty: boolean;
  readonly started: Promise<void>;
  readonly exit: Promise<ProcessExit>;
  readonly #mux: Mux;
  readonly #in: GuestStream;
  readonly #out: GuestStream;
  readonly #err: GuestStream;
  readonly #startedSettle: Settle<void>;
  readonly #exitSettle: Settle<ProcessExit>;
  #over = false;

  constructor(id: number, tty: boolean, hasStdin: boolean, mux: Mux) {
    this.id = id;
    this.tty = tty;
    this.#mux = mux;
    this.#in = mux.stream("out");
    this.#out = mux.stream("in");
    this.#err = mux.stream("in");
    [this.started, this.#startedSettle] = deferred();
    [this.exit, this.#exitSettle] = deferred();
    if (!hasStdin) this.#in.end();
  }

  get stdin(): Writable {
    return this.#in;
  }

  get stdout(): Readable {
    return this.#out;
  }

  get stderr(): Readable {
    return this.#err;
  }

  get streams(): ProcessStreams {
    return { stdin: this.#in.id, stdout: this.#out.id, stderr: this.#err.id };
  }

  signal(number: number): void {
    if (!this.#over && !this.#mux.over) {
      this.#mux.control({ type: "signal", process: this.id, signal: number });
    }
  }

  resize(size: TerminalSize): void {
    if (!this.#over && !this.#mux.over) {
      this.#mux.control({ type: "resize", process: this.id, rows: size.rows, cols: size.cols });
    }
  }

  /** The guest says the process runs. */
  reportStarted(): void {
    this.#startedSettle.resolve();
  }

  /** The guest says how it ended; all output came before. */
  reportExit(message: GuestMessage & { type: "exit" }): void {
    const exit: ProcessExit =
      message.signal === undefined ? { code: message.code ?? 0 } : { signal: message.signal };
    this.#finish();
    this.#startedSettle.resolve();
    this.#exitSettle.resolve(exit);
  }

  /** The guest refused it, or the session ended before it did. */
  fail(error: Error): void {
    this.#finish();
    this.#startedSettle.reject(error);
    this.#exitSettle.reject(error);
  }

  #finish(): void {
    this.#over = true;
    this.#in.finish();
    this.#out.finish();
    this.#err.finish();
  }
}

/** What a `refused` message becomes. */
export function refusal(message: GuestMessage & { type: "refused" }): GuestError {
  const key = printable(message.key);
  return new GuestError("GUEST_REFUSED", "refused", printable(message.reason), {
    detail: key,
    hint: `change ${key} in shelter.yaml and build again; the image then has another measurement, so its reference values change too`,
  });
}

interface Settle<T> {
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

function deferred<T>(): [Promise<T>, Settle<T>] {
  const { promise, resolve, reject } = Promise.withResolvers<T>();
  // Whoever cares awaits it; nobody caring must not end the host's process.
  promise.catch(() => {});
  return [promise, { resolve, reject }];
}
