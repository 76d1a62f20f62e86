import { type ErrorKind, EXIT_STATUS, type Json, type JsonObject, parseJson } from "@shelter/base";
import type { ExecRequest, ProcessExit, TerminalSize } from "@shelter/guest";
import type { InstanceStats, Timing } from "./config.ts";
import { VmError } from "./errors.ts";

/** Stream numbers of a process, chosen by the client. */
export interface Streams {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

/** An error as it travels. */
export interface WireError {
  readonly code: string;
  readonly kind: ErrorKind;
  readonly message: string;
  readonly hint: string | undefined;
}

/**
 * Messages between the process that runs an instance and other `shelter` commands of the same user, over a
 * socket of mode 0600 in a directory of mode 0700. Framing and streams are those of the agent protocol; the
 * client chooses stream numbers. `ref` is the client's name for a process: 0 is the main one.
 */
export type ControlRequest =
  | { readonly type: "exec"; readonly ref: number; readonly request: ExecRequest; readonly streams: Streams }
  | { readonly type: "attach"; readonly ref: number; readonly stdin: boolean; readonly streams: Streams }
  | { readonly type: "signal"; readonly ref: number; readonly signal: number }
  | { readonly type: "resize"; readonly ref: number; readonly size: TerminalSize }
  | { readonly type: "stop"; readonly timeout: number }
  | { readonly type: "stats" };

/** What the running side answers. `ended` is the last message of a connection. */
export type ControlReply =
  | { readonly type: "started"; readonly ref: number }
  | { readonly type: "exit"; readonly ref: number; readonly exit: ProcessExit }
  | { readonly type: "error"; readonly ref: number; readonly error: WireError }
  | { readonly type: "stats"; readonly stats: InstanceStats }
  | { readonly type: "ended"; readonly exit: ProcessExit | null; readonly error: WireError | null };

/** A message as JSON; members that are undefined are left out. */
export function controlJson(message: ControlRequest | ControlReply): JsonObject {
  return JSON.parse(JSON.stringify(message)) as JsonObject;
}

/** Parses a request of a client. */
export function parseRequest(payload: Uint8Array): ControlRequest {
  const m = readMessage(payload);
  const type = m.text("type");
  switch (type) {
    case "exec":
      return { type, ref: m.number("ref"), request: execOf(m.object("request")), streams: streamsOf(m) };
    case "attach":
      return { type, ref: m.number("ref"), stdin: m.flag("stdin"), streams: streamsOf(m) };
    case "signal":
      return { type, ref: m.number("ref"), signal: m.number("signal", 64) };
    case "resize":
      return { type, ref: m.number("ref"), size: sizeOf(m.object("size")) };
    case "stop":
      return { type, timeout: m.number("timeout", 86400) };
    case "stats":
      return { type };
    default:
      throw malformed(`an unknown request ${type.slice(0, 40)}`);
  }
}

/** Parses an answer of the running side. */
export function parseReply(payload: Uint8Array): ControlReply {
  const m = readMessage(payload);
  const type = m.text("type");
  switch (type) {
    case "started":
      return { type, ref: m.number("ref") };
    case "exit":
      return { type, ref: m.number("ref"), exit: exitOf(m.object("exit")) };
    case "error":
      return { type, ref: m.number("ref"), error: errorOf(m.object("error")) };
    case "stats":
      return { type, stats: statsOf(m.object("stats")) };
    case "ended":
      return {
        type,
        exit: m.has("exit") ? exitOf(m.object("exit")) : null,
        error: m.has("error") ? errorOf(m.object("error")) : null,
      };
    default:
      throw malformed(`an unknown answer ${type.slice(0, 40)}`);
  }
}

/** Parses an error on its own, as the process of a detached instance reports it. */
export function parseError(value: Json | undefined): WireError {
  return errorOf(new Members(value, "error"));
}

function malformed(message: string): VmError {
  return new VmError("CONTROL_PROTOCOL", "malformed", `${message}; is the instance of another version?`);
}

/** The members of one JSON object, each checked as it is taken. */
class Members {
  readonly #object: JsonObject;
  readonly #what: string;

  constructor(value: Json | undefined, what: string) {
    if (typeof value !== "object" || value === null || Array.isArray(value)) {
      throw malformed(`${what} is not an object`);
    }
    this.#object = value as JsonObject;
    this.#what = what;
  }

  has(name: string): boolean {
    return this.#object[name] !== undefined && this.#object[name] !== null;
  }

  number(name: string, max = 0xffffffff): number {
    const value = this.#object[name];
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0 || value > max) {
      throw malformed(`${this.#what}.${name} is not a whole number up to ${max}`);
    }
    return value;
  }

  amount(name: string): number {
    const value = this.#object[name];
    if (typeof value !== "number") throw malformed(`${this.#what}.${name} is not a number`);
    return value;
  }

  text(name: string): string {
    const value = this.#object[name];
    if (typeof value !== "string") throw malformed(`${this.#what}.${name} is not text`);
    return value;
  }

  flag(name: string): boolean {
    const value = this.#object[name];
    if (typeof value !== "boolean") throw malformed(`${this.#what}.${name} is not true or false`);
    return value;
  }

  list(name: string): readonly Json[] {
    const value = this.#object[name];
    if (!Array.isArray(value)) throw malformed(`${this.#what}.${name} is not a list`);
    return value as readonly Json[];
  }

  texts(name: string): string[] {
    return this.list(name).map((value) => {
      if (typeof value !== "string") throw malformed(`${this.#what}.${name} holds what is not text`);
      return value;
    });
  }

  object(name: string): Members {
    return new Members(this.#object[name], `${this.#what}.${name}`);
  }
}

function readMessage(payload: Uint8Array): Members {
  return new Members(parseJson(Buffer.from(payload).toString("utf8"), "a control message"), "message");
}

function streamsOf(m: Members): Streams {
  const s = m.object("streams");
  return { stdin: s.number("stdin"), stdout: s.number("stdout"), stderr: s.number("stderr") };
}

function sizeOf(m: Members): TerminalSize {
  return { rows: m.number("rows", 65535), cols: m.number("cols", 65535) };
}

function execOf(m: Members): ExecRequest {
  return {
    argv: m.texts("argv"),
    env: m.texts("env"),
    tty: m.flag("tty"),
    size: m.has("size") ? sizeOf(m.object("size")) : undefined,
    stdin: m.flag("stdin"),
  };
}

function exitOf(m: Members): ProcessExit {
  return m.has("signal") ? { signal: m.number("signal", 64) } : { code: m.number("code", 255) };
}

function errorOf(m: Members): WireError {
  const kind = m.text("kind");
  return {
    code: m.text("code"),
    kind: isKind(kind) ? kind : "bug",
    message: m.text("message"),
    hint: m.has("hint") ? m.text("hint") : undefined,
  };
}

function isKind(text: string): text is ErrorKind {
  return Object.hasOwn(EXIT_STATUS, text);
}

function statsOf(m: Members): InstanceStats {
  const timings = m.list("timings").map((value): Timing => {
    const t = new Members(value, "timing");
    return { side: t.text("side") === "guest" ? "guest" : "host", step: t.text("step"), ms: t.amount("ms") };
  });
  return { machine: m.amount("machine"), supervisor: m.amount("supervisor"), tpm: m.amount("tpm"), timings };
}
