import { connect, type Socket } from "node:net";
import type { Readable, Writable } from "node:stream";
import { ShelterError } from "@shelter/base";
import {
  type ExecRequest,
  type GuestProcess,
  type GuestStream,
  Mux,
  type ProcessExit,
  type TerminalSize,
} from "@shelter/guest";
import type { Instance, InstanceStats } from "./config.ts";
import {
  type ControlReply,
  type ControlRequest,
  controlJson,
  parseReply,
  type WireError,
} from "./control.ts";
import { VmError } from "./errors.ts";
import { runtimePaths } from "./runtime.ts";
import { isAlive, refreshInstance } from "./store.ts";

/** Reaches a running instance from another process. */
export async function connectInstance(instance: Instance): Promise<InstanceClient> {
  const now = refreshInstance(instance);
  if (!isAlive(now)) {
    throw new VmError("INSTANCE_NOT_RUNNING", "usage", `instance ${now.name} is not running`, {
      hint: `start it: shelter start ${now.name}`,
    });
  }
  const socket = connect(runtimePaths(now.id).control);
  await new Promise<void>((resolve, reject) => {
    socket.once("connect", resolve);
    socket.once("error", (cause) =>
      reject(new VmError("CONTROL_LOST", "unavailable", `cannot reach instance ${now.name}`, { cause })),
    );
  });
  return new InstanceClient(socket, now.name);
}

/** A connection to the process that runs an instance. */
export class InstanceClient {
  readonly #mux: Mux;
  readonly #processes = new Map<number, RemoteProcess>();
  readonly #stats: ((stats: InstanceStats) => void)[] = [];
  readonly #ended: PromiseWithResolvers<ProcessExit>;
  #next = 1;

  constructor(socket: Socket, name: string) {
    this.#ended = Promise.withResolvers();
    this.#ended.promise.catch(() => {});
    this.#mux = new Mux(socket, {
      control: (payload) => this.#reply(parseReply(payload)),
      ended: (cause) => {
        const error = new VmError(
          "CONTROL_LOST",
          "unavailable",
          `the connection to instance ${name} was lost`,
          {
            cause,
          },
        );
        this.#ended.reject(error);
        for (const process of this.#processes.values()) process.fail(error);
        socket.destroy();
      },
    });
  }

  /** Runs one more process in the guest. */
  exec(request: ExecRequest): GuestProcess {
    const process = this.#process(request.tty);
    this.#send({
      type: "exec",
      ref: process.id,
      request,
      streams: process.streams,
    });
    if (!request.stdin) process.stdin.end();
    return process;
  }

  /** Joins the main process: its output from now on, and its input when asked for. */
  attach(options: { readonly stdin: boolean; readonly tty: boolean }): GuestProcess {
    const process = this.#process(options.tty, true);
    this.#send({ type: "attach", ref: process.id, stdin: options.stdin, streams: process.streams });
    return process;
  }

  /** Sends a signal to the main process; one whose guest is not up yet is ended by it. */
  signal(number: number): void {
    this.#send({ type: "signal", ref: 0, signal: number });
  }

  /** SIGTERM for the main process, SIGKILL after so many seconds. */
  stop(seconds: number): void {
    this.#send({ type: "stop", timeout: seconds });
  }

  /** How the main process ended, once everything is cleaned up; rejects with the reason when it did not run. */
  wait(): Promise<ProcessExit> {
    return this.#ended.promise;
  }

  stats(): Promise<InstanceStats> {
    return new Promise((resolve, reject) => {
      this.#stats.push(resolve);
      this.#ended.promise.then(
        () => reject(new VmError("INSTANCE_NOT_RUNNING", "usage", "the instance has ended")),
        reject,
      );
      this.#send({ type: "stats" });
    });
  }

  /** Hangs up; processes started through this connection get SIGHUP, the instance goes on. */
  close(): void {
    this.#mux.close();
  }

  #process(tty: boolean, main = false): RemoteProcess {
    const process = new RemoteProcess(this.#next++, tty, this.#mux, (message) => this.#send(message), main);
    this.#processes.set(process.id, process);
    return process;
  }

  #send(message: ControlRequest): void {
    if (!this.#mux.over) this.#mux.control(controlJson(message));
  }

  #reply(reply: ControlReply): void {
    switch (reply.type) {
      case "started":
        this.#processes.get(reply.ref)?.reportStarted();
        return;
      case "exit":
        this.#processes.get(reply.ref)?.reportExit(reply.exit);
        this.#processes.delete(reply.ref);
        return;
      case "error":
        this.#processes.get(reply.ref)?.fail(toError(reply.error));
        this.#processes.delete(reply.ref);
        return;
      case "stats":
        this.#stats.shift()?.(reply.stats);
        return;
      case "ended": {
        const error = reply.error === null ? null : toError(reply.error);
        if (error !== null) this.#ended.reject(error);
        else this.#ended.resolve(reply.exit ?? { signal: 9 });
        for (const process of this.#processes.values()) {
          process.fail(error ?? new VmError("INSTANCE_NOT_RUNNING", "unavailable", "the instance has ended"));
        }
        this.#processes.clear();
        this.#mux.close();
        return;
      }
      default:
        reply satisfies never;
    }
  }
}

/** A process held through the control socket. */
class RemoteProcess implements GuestProcess {
  readonly id: number;
  readonly tty: boolean;
  readonly started: Promise<void>;
  readonly exit: Promise<ProcessExit>;
  readonly #in: GuestStream;
  readonly #out: GuestStream;
  readonly #err: GuestStream;
  readonly #send: (message: ControlRequest) => void;
  readonly #target: number;
  readonly #started = Promise.withResolvers<void>();
  readonly #exit = Promise.withResolvers<ProcessExit>();

  constructor(id: number, tty: boolean, mux: Mux, send: (message: ControlRequest) => void, main: boolean) {
    this.id = id;
    this.tty = tty;
    this.#send = send;
    this.#target = main ? 0 : id;
    this.#in = mux.stream("out");
    this.#out = mux.stream("in");
    this.#err = mux.stream("in");
    this.started = this.#started.promise;
    this.exit = this.#exit.promise;
    this.started.catch(() => {});
    this.exit.catch(() => {});
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

  get streams(): { stdin: number; stdout: number; stderr: number } {
    return { stdin: this.#in.id, stdout: this.#out.id, stderr: this.#err.id };
  }

  signal(number: number): void {
    this.#send({ type: "signal", ref: this.#target, signal: number });
  }

  resize(size: TerminalSize): void {
    this.#send({ type: "resize", ref: this.#target, size: { rows: size.rows, cols: size.cols } });
  }

  reportStarted(): void {
    this.#started.resolve();
  }

  reportExit(exit: ProcessExit): void {
    this.#finish();
    this.#started.resolve();
    this.#exit.resolve(exit);
  }

  fail(error: Error): void {
    this.#finish();
    this.#started.reject(error);
    this.#exit.reject(error);
  }

  #finish(): void {
    this.#in.finish();
    this.#out.finish();
    this.#err.finish();
  }
}

function toError(wire: WireError): ShelterError {
  return new ShelterError(wire.code, wire.kind, wire.message, {
    ...(wire.hint === undefined ? {} : { hint: wire.hint }),
  });
}
