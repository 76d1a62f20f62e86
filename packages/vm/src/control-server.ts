import { chmodSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { describe, ShelterError } from "@shelter/base";
import { type ExecRequest, type GuestProcess, Mux, type ProcessExit } from "@shelter/guest";
import type { InstanceStats } from "./config.ts";
import {
  type ControlReply,
  type ControlRequest,
  controlJson,
  parseRequest,
  type Streams,
  type WireError,
} from "./control.ts";

/** Other commands connected at once. */
const MAX_CLIENTS = 64;

/** What the control socket gives access to. */
export interface Controlled {
  readonly main: GuestProcess;
  exec(request: ExecRequest): GuestProcess;
  watchOutput(): { stdout: Readable; stderr: Readable };
  stop(seconds: number): void;
  signal(number: number): void;
  stats(): InstanceStats;
}

/** Serves the other `shelter` commands of the same user. */
export class ControlServer {
  readonly #server: Server;
  readonly #clients = new Set<ControlClientLink>();

  private constructor(server: Server) {
    this.#server = server;
  }

  static async listen(path: string, controlled: Controlled): Promise<ControlServer> {
    const server = createServer();
    const self = new ControlServer(server);
    server.maxConnections = MAX_CLIENTS;
    server.on("connection", (socket) => {
      const link = new ControlClientLink(socket, controlled, () => self.#clients.delete(link));
      self.#clients.add(link);
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    chmodSync(path, 0o600);
    return self;
  }

  /** Tells everybody how it ended, and hangs up. */
  close(exit: ProcessExit | null, error: Error | null): void {
    this.#server.close();
    for (const client of [...this.#clients]) client.end(exit, error);
  }
}

class ControlClientLink {
  readonly #mux: Mux;
  readonly #controlled: Controlled;
  readonly #processes = new Map<number, GuestProcess>();
  /** Output that is still on its way; the end is told behind it. */
  readonly #pending = new Set<Promise<void>>();

  constructor(socket: Socket, controlled: Controlled, gone: () => void) {
    this.#controlled = controlled;
    this.#mux = new Mux(socket, {
      control: (payload) => this.#request(parseRequest(payload)),
      ended: () => {
        gone();
        // Whoever started an exec and is gone cannot read it any more: it gets what a closed terminal means.
        for (const process of this.#processes.values()) process.signal(1);
        this.#processes.clear();
      },
    });
  }

  end(exit: ProcessExit | null, error: Error | null): void {
    void Promise.allSettled([...this.#pending]).then(() => {
      this.#reply({ type: "ended", exit, error: error === null ? null : wireError(error) });
      this.#mux.close();
    });
  }

  #request(message: ControlRequest): void {
    const ref = "ref" in message ? message.ref : 0;
    try {
      this.#perform(message);
    } catch (error) {
      this.#reply({ type: "error", ref, error: wireError(error) });
    }
  }

  #perform(message: ControlRequest): void {
    switch (message.type) {
      case "exec":
        this.#exec(message.ref, message.request, message.streams);
        return;
      case "attach":
        this.#attach(message.ref, message.stdin, message.streams);
        return;
      case "signal":
        if (message.ref === 0) this.#controlled.signal(message.signal);
        else this.#processes.get(message.ref)?.signal(message.signal);
        return;
      case "resize":
        if (message.ref === 0) this.#controlled.main.resize(message.size);
        else this.#processes.get(message.ref)?.resize(message.size);
        return;
      case "stop":
        this.#controlled.stop(message.timeout);
        return;
      case "stats":
        this.#reply({ type: "stats", stats: this.#controlled.stats() });
        return;
      default:
        message satisfies never;
    }
  }

  #exec(ref: number, request: ExecRequest, streams: Streams): void {
    const process = this.#controlled.exec(request);
    this.#processes.set(ref, process);
    const carried = this.#carry(process, streams);
    if (request.stdin) this.#mux.accept(streams.stdin, "in").pipe(process.stdin);
    process.started.then(
      () => this.#reply({ type: "started", ref }),
      () => {},
    );
    process.exit.then(
      async (exit) => {
        this.#processes.delete(ref);
        await carried;
        this.#reply({ type: "exit", ref, exit });
      },
      (error: unknown) => {
        this.#processes.delete(ref);
        this.#reply({ type: "error", ref, error: wireError(error) });
      },
    );
  }

  #attach(ref: number, stdin: boolean, streams: Streams): void {
    const { main } = this.#controlled;
    const carried = this.#carry(this.#controlled.watchOutput(), streams);
    if (stdin) {
      const input = this.#mux.accept(streams.stdin, "in");
      input.on("data", (chunk: Buffer) => {
        if (!main.stdin.write(chunk)) {
          input.pause();
          main.stdin.once("drain", () => input.resume());
        }
      });
      // An end that was sent is the program's end of input; a client that merely left is not.
      input.on("end", () => {
        if (!this.#mux.over) main.stdin.end();
      });
    }
    this.#reply({ type: "started", ref });
    main.exit.then(
      async (exit) => {
        await carried;
        this.#reply({ type: "exit", ref, exit });
      },
      (error: unknown) => this.#reply({ type: "error", ref, error: wireError(error) }),
    );
  }

  /** Pipes both outputs to the client; settles when all of it is handed over or the client is gone. */
  #carry(from: { stdout: Readable; stderr: Readable }, streams: Streams): Promise<void> {
    const one = (source: Readable, id: number): Promise<void> => {
      const sink: Writable = this.#mux.accept(id, "out");
      return new Promise((resolve) => {
        sink.on("finish", resolve);
        sink.on("close", () => {
          source.destroy();
          resolve();
        });
        sink.on("error", () => {});
        source.on("error", () => sink.end());
        source.pipe(sink);
      });
    };
    const both = Promise.all([one(from.stdout, streams.stdout), one(from.stderr, streams.stderr)]).then(
      () => {},
    );
    this.#pending.add(both);
    void both.then(() => this.#pending.delete(both));
    return both;
  }

  #reply(reply: ControlReply): void {
    if (!this.#mux.over) this.#mux.control(controlJson(reply));
  }
}

function wireError(error: unknown): WireError {
  if (error instanceof ShelterError) {
    return { code: error.code, kind: error.kind, message: describe(error), hint: error.hint };
  }
  return { code: "BUG", kind: "bug", message: describe(error), hint: undefined };
}
