import type { Json, JsonObject } from "@shelter/base";
import { parseJson } from "@shelter/base";
import type { ExecRequest, ProcessExit, TerminalSize } from "@shelter/guest";
import { VmError } from "./errors.ts";

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

/** Stream numbers of a process, chosen by the client. */
export interface Streams {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}

/** An error as it travels. */
export interface WireError {
  readonly code: string;
  readonly kind: string;
  readonly message: string;
  readonly hint?: string | undefined;
}

/** What the running side answers. `ended` is the last message of a connection. */
export type ControlReply =
  | { readonly type: "started"; readonly ref: number }
  | { readonly type: "exit"; readonly ref: number; readonly exit: ProcessExit }
  | { readonly type: "error"; readonly ref: number; readonly error: WireError }
  | { readonly type: "stats"; readonly stats: JsonObject }
  | { readonly type: "ended"; readonly exit: ProcessExit | null; readonly error: WireError | null };

/** Parses a message of the other side far enough that a foreign or older program is an error and not a surprise. */
export function parseControl(payload: Uint8Array): JsonObject & { readonly type: string } {
  const value: Json = parseJson(Buffer.from(payload).toString("utf8"), "a control message");
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    const object = value as JsonObject;
    if (typeof object["type"] === "string") return object as JsonObject & { readonly type: string };
  }
  throw new VmError("CONTROL_PROTOCOL", "malformed", "a control message without a type");
}
