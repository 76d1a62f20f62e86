import { describe, type JsonObject, toBase64 } from "@shelter/base";
import { GuestError } from "./errors.ts";
import { serveFiles } from "./fuse/server.ts";
import { MountSource } from "./fuse/source.ts";
import { checkMessage, type GuestMessage, parseGuestMessage } from "./messages.ts";
import { Mux, printable } from "./mux.ts";
import { refusal, SessionProcess } from "./process.ts";
import type {
  ExecRequest,
  GuestConnection,
  GuestProcess,
  GuestStep,
  ProcessExit,
  SessionOptions,
} from "./request.ts";

/** The guest asks its broker one thing at a time; more than this at once is not our agent. */
const MAX_RELAYED = 4;
/** The agent reports seven steps. */
const MAX_STEPS = 64;

type State = "hello" | "booting" | "running" | "ending" | "over";

/**
 * One conversation with the agent of one guest, from its `hello` to its `bye`. Opens the mount sources
 * before anything is sent, so that a missing one is an error before the guest runs anything.
 */
export class Session {
  /** Process 1: what the image is there for. */
  readonly main: GuestProcess;
  /** Version of the agent; rejects when the guest never says hello. */
  readonly hello: Promise<string>;
  /** How the main process ended, once the guest has said goodbye; rejects when it could not run or was lost. */
  readonly ended: Promise<ProcessExit>;
  readonly #options: SessionOptions;
  readonly #mux: Mux;
  readonly #main: SessionProcess;
  readonly #processes = new Map<number, SessionProcess>();
  readonly #mounts: { request: SessionOptions["run"]["mounts"][number]; source: MountSource }[] = [];
  readonly #settleHello: { resolve: (agent: string) => void; reject: (error: Error) => void };
  readonly #settleEnded: { resolve: (exit: ProcessExit) => void; reject: (error: Error) => void };
  #state: State = "hello";
  #nextProcess = 2;
  #relayed = 0;
  #steps = 0;
  #lastStep: string | undefined;
  #exit: ProcessExit | undefined;
  #failure: Error | undefined;

  constructor(options: SessionOptions) {
    this.#options = options;
    for (const request of options.run.mounts) {
      this.#mounts.push({ request, source: new MountSource(request.source, request.readOnly) });
    }
    const hello = Promise.withResolvers<string>();
    const ended = Promise.withResolvers<ProcessExit>();
    hello.promise.catch(() => {});
    ended.promise.catch(() => {});
    this.hello = hello.promise;
    this.#settleHello = hello;
    this.ended = ended.promise;
    this.#settleEnded = ended;
    this.#mux = new Mux(
      options.transport,
      { control: (payload) => this.#control(payload), ended: (error) => this.#over(error) },
      true,
    );
    this.#main = new SessionProcess(1, options.run.tty, options.run.stdin, this.#mux);
    this.main = this.#main;
    this.#processes.set(1, this.#main);
  }

  /** The last boot step the guest reported. */
  get lastStep(): string | undefined {
    return this.#lastStep;
  }

  /** Runs one more process in the guest. */
  exec(request: ExecRequest): GuestProcess {
    if (this.#state !== "running") {
      throw new GuestError("SESSION_CLOSED", "unavailable", "the main process is not running");
    }
    const id = this.#nextProcess++;
    const process = new SessionProcess(id, request.tty, request.stdin, this.#mux);
    const message: JsonObject = {
      type: "exec",
      process: id,
      argv: [...request.argv],
      env: [...request.env],
      tty: request.tty,
      size: request.size === undefined ? undefined : { rows: request.size.rows, cols: request.size.cols },
      stdin: request.stdin,
      streams: { ...process.streams },
    };
    try {
      this.#send(message);
    } catch (error) {
      process.fail(error as Error);
      throw error;
    }
    this.#processes.set(id, process);
    return process;
  }

  /** Connects to a port inside the guest; a port the manifest does not grant is an error on the connection. */
  connect(port: number): GuestConnection {
    if (this.#state !== "running") {
      throw new GuestError("SESSION_CLOSED", "unavailable", "the main process is not running");
    }
    const stream = this.#mux.stream("both");
    this.#send({ type: "connect", stream: stream.id, port });
    return stream;
  }

  /** SIGTERM for the main process, SIGKILL after the time-out. */
  stop(timeoutSeconds: number): void {
    if (this.#state === "booting" || this.#state === "running") {
      this.#send({ type: "stop", timeout: timeoutSeconds });
    }
  }

  /** Ends the conversation from this side, for a machine that is gone or has to go. */
  abort(error: Error): void {
    this.#failure ??= error;
    this.#mux.close(error);
  }

  #send(message: JsonObject): void {
    const clean = withoutUndefined(message);
    try {
      checkMessage("host", clean);
    } catch (cause) {
      throw new GuestError("REQUEST_INVALID", "usage", "the request does not fit the agent protocol", {
        cause,
      });
    }
    this.#mux.control(clean);
  }

  #boot(): void {
    const run = this.#options.run;
    const mounts = this.#mounts.map(({ request, source }) => {
      const stream = this.#mux.stream("both");
      serveFiles(stream, source);
      return {
        target: request.target,
        readOnly: request.readOnly,
        ...(source.isFile ? { file: true } : {}),
        stream: stream.id,
      };
    });
    this.#send({
      type: "boot",
      manifest: toBase64(this.#options.manifest),
      attest: this.#options.attest,
      time: Math.floor(this.#options.now.getTime() / 1000),
      run: {
        args: run.args === null ? null : [...run.args],
        env: [...run.env],
        tty: run.tty,
        size: run.size === undefined ? undefined : { rows: run.size.rows, cols: run.size.cols },
        stdin: run.stdin,
        streams: { ...this.#main.streams },
        mounts,
        hostname: run.hostname,
      },
    });
    this.#mux.release();
  }

  #control(payload: Uint8Array): void {
    const message = parseGuestMessage(payload);
    if (message.type === "hello") {
      if (this.#state !== "hello") throw unexpected(message.type);
      this.#state = "booting";
      this.#settleHello.resolve(printable(message.agent));
      this.#boot();
      return;
    }
    if (message.type === "failed") {
      this.#failure ??= new GuestError(
        "GUEST_FAILED",
        failureKind(message.code),
        printable(message.message),
        {
          detail: printable(message.code),
          step: printable(message.step),
        },
      );
      this.#state = "ending";
      // Nothing else is to be learnt from it; waiting for its power-off would only cost time.
      this.#mux.close();
      return;
    }
    if (this.#state === "hello") throw unexpected(message.type);
    switch (message.type) {
      case "step":
        this.#step(message);
        return;
      case "http":
        this.#http(message);
        return;
      case "started":
      case "exit":
      case "refused":
        this.#process(message);
        return;
      case "bye":
        this.#bye();
        return;
      default:
        message satisfies never;
    }
  }

  #step(message: GuestMessage & { type: "step" }): void {
    if (++this.#steps > MAX_STEPS) throw unexpected("step");
    this.#lastStep = printable(message.step);
    const step: GuestStep = { step: this.#lastStep, ms: message.ms, at: performance.now() };
    this.#options.onStep?.(step);
  }

  #process(message: GuestMessage & { type: "started" | "exit" | "refused" }): void {
    const process = this.#processes.get(message.process);
    if (process === undefined) {
      throw new GuestError(
        "CONTROL_UNEXPECTED",
        "malformed",
        `${message.type} of unknown process ${message.process}`,
      );
    }
    const main = process === this.#main;
    if (message.type === "started") {
      if (main && this.#state === "booting") this.#state = "running";
      process.reportStarted();
      return;
    }
    this.#processes.delete(message.process);
    if (message.type === "refused") {
      const error = refusal(message);
      process.fail(error);
      if (main) this.#failure ??= error;
    } else {
      process.reportExit(message);
      if (main)
        this.#exit = message.signal === undefined ? { code: message.code ?? 0 } : { signal: message.signal };
    }
    if (main) this.#state = "ending";
  }

  #http(message: GuestMessage & { type: "http" }): void {
    if (++this.#relayed > MAX_RELAYED) throw unexpected("http");
    void this.#answer(message).then((reply) => {
      this.#relayed--;
      if (this.#state !== "over") this.#mux.control(reply);
    });
  }

  /** The reply to one relayed request; what the relay cannot do, or the protocol not carry, is an `http-error`. */
  async #answer(message: GuestMessage & { type: "http" }): Promise<JsonObject> {
    try {
      const response = await this.#options.relay({
        method: message.method,
        path: message.path,
        cookie: message.cookie,
        bearer: message.bearer,
        body: message.body === undefined ? undefined : Buffer.from(message.body, "base64"),
      });
      const reply = withoutUndefined({
        type: "http-response",
        id: message.id,
        status: response.status,
        cookie: response.cookie,
        body: toBase64(response.body),
      });
      return checkMessage("host", reply);
    } catch (error) {
      return { type: "http-error", id: message.id, message: printable(describe(error)).slice(0, 1000) };
    }
  }

  #bye(): void {
    if (this.#state !== "ending") throw unexpected("bye");
    this.#send({ type: "bye" });
    this.#mux.close();
  }

  #over(error: Error | undefined): void {
    const booted = this.#state !== "hello";
    this.#state = "over";
    for (const { source } of this.#mounts) source.close();
    const failure =
      this.#failure ?? (this.#exit === undefined ? (error ?? lost(this.#lastStep, booted)) : undefined);
    const reason = failure ?? error ?? lost(this.#lastStep, booted);
    for (const process of this.#processes.values()) process.fail(reason);
    this.#processes.clear();
    this.#settleHello.reject(reason);
    if (failure !== undefined) this.#settleEnded.reject(failure);
    else if (this.#exit !== undefined) this.#settleEnded.resolve(this.#exit);
  }
}

function unexpected(type: string): GuestError {
  return new GuestError("CONTROL_UNEXPECTED", "malformed", `the guest sent ${type} where it may not`);
}

function lost(step: string | undefined, booted: boolean): GuestError {
  const where = !booted
    ? "before its agent said hello"
    : step === undefined
      ? "while booting"
      : `after step ${step}`;
  return new GuestError("GUEST_LOST", "unavailable", `the guest was lost ${where}`, {
    ...(step === undefined ? {} : { step }),
  });
}

/** What kind of end a guest's own failure is (`failures` in the schema). */
function failureKind(code: string): "malformed" | "refused" | "unavailable" | "usage" {
  switch (code) {
    case "MANIFEST_MISMATCH":
    case "CMDLINE_REFUSED":
    case "ROOT_MISMATCH":
    case "ROOT_CORRUPTED":
    case "ROOT_KEY":
    case "NO_EVIDENCE":
    case "BROKER_REFUSED":
      return "refused";
    case "PROTOCOL_ERROR":
    case "MANIFEST_MALFORMED":
    case "BROKER_MALFORMED":
      return "malformed";
    default:
      return "unavailable";
  }
}

function withoutUndefined(object: JsonObject): JsonObject {
  return JSON.parse(JSON.stringify(object)) as JsonObject;
}
