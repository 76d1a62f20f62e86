import { fromBase64, type Json, type JsonObject, parseJson } from "@shelter/base";
import schema from "../../../schema/agent-protocol.json" with { type: "json" };
import { GuestError } from "./errors.ts";

/** What the guest says. */
export type GuestMessage =
  | { readonly type: "hello"; readonly protocol: number; readonly agent: string }
  | { readonly type: "step"; readonly step: string; readonly ms: number }
  | {
      readonly type: "http";
      readonly id: number;
      readonly method: "GET" | "POST";
      readonly path: string;
      readonly cookie?: string;
      readonly bearer?: string;
      readonly body?: string;
    }
  | { readonly type: "started"; readonly process: number }
  | { readonly type: "exit"; readonly process: number; readonly code?: number; readonly signal?: number }
  | { readonly type: "refused"; readonly process: number; readonly reason: string; readonly key: string }
  | { readonly type: "failed"; readonly code: string; readonly message: string; readonly step: string }
  | { readonly type: "bye" };

/** Which end a message comes from. */
export type Side = "guest" | "host";

interface Rule {
  readonly type: string;
  readonly min?: number;
  readonly max?: number;
  readonly optional?: boolean;
  readonly nullable?: boolean;
  readonly oneOf?: readonly string[];
  readonly of?: Rule;
}
type Members = Readonly<Record<string, Rule>>;

const TYPES: Readonly<Record<string, Members>> = schema.types;
const MESSAGES: Readonly<Record<Side, Readonly<Record<string, Members>>>> = schema.messages;

function malformed(message: string): GuestError {
  return new GuestError("CONTROL_MALFORMED", "malformed", message);
}

/** Parses a control message of the guest; anything but what the schema lists is refused. */
export function parseGuestMessage(payload: Uint8Array): GuestMessage {
  return parseMessage("guest", payload) as GuestMessage;
}

/** Parses a control message of either side. */
export function parseMessage(side: Side, payload: Uint8Array): JsonObject {
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(payload);
  } catch (cause) {
    throw new GuestError("CONTROL_MALFORMED", "malformed", "a control message is not UTF-8", { cause });
  }
  refuseDepth(text);
  let value: Json;
  try {
    value = parseJson(text, "a control message");
  } catch (cause) {
    throw new GuestError("CONTROL_MALFORMED", "malformed", "a control message is not JSON", { cause });
  }
  return checkMessage(side, value);
}

/** Refuses a message the schema does not allow: what the peer sent, and what we are about to send. */
export function checkMessage(side: Side, value: Json): JsonObject {
  const object = asObject(value, "a control message");
  const type = object["type"];
  if (typeof type !== "string") throw malformed("a control message without a type");
  const members = Object.hasOwn(MESSAGES[side], type) ? MESSAGES[side][type] : undefined;
  if (members === undefined) {
    throw new GuestError(
      "CONTROL_UNKNOWN",
      "malformed",
      `unknown control message ${JSON.stringify(type.slice(0, 40))}`,
    );
  }
  checkMembers(object, members, type, true);
  if (type === "exit" && "code" in object === "signal" in object) {
    throw malformed("exit needs exactly one of code and signal");
  }
  return object;
}

/** Brackets are counted before parsing, so that nesting costs no stack. */
function refuseDepth(text: string): void {
  let depth = 0;
  let inString = false;
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (inString) {
      if (c === 0x5c) i++;
      else if (c === 0x22) inString = false;
    } else if (c === 0x22) inString = true;
    else if (c === 0x7b || c === 0x5b) {
      if (++depth > schema.limits.maxJsonDepth) throw malformed(`a control message is nested too deeply`);
    } else if (c === 0x7d || c === 0x5d) depth--;
  }
}

function asObject(value: Json | undefined, what: string): JsonObject {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw malformed(`${what} is not an object`);
  }
  return value as JsonObject;
}

function checkMembers(object: JsonObject, members: Members, what: string, message: boolean): void {
  for (const key of Object.keys(object)) {
    if (key === "type" && message) continue;
    if (!Object.hasOwn(members, key)) throw malformed(`${what} has an unknown member ${JSON.stringify(key)}`);
  }
  for (const [key, rule] of Object.entries(members)) {
    const value = object[key];
    if (value === undefined) {
      if (rule.optional !== true) throw malformed(`${what} lacks ${key}`);
      continue;
    }
    checkValue(value, rule, `${what}.${key}`);
    checkMeaning(key, value, what);
  }
}

function checkValue(value: Json, rule: Rule, what: string): void {
  if (value === null && rule.nullable === true) return;
  const min = rule.min ?? 0;
  const max = rule.max ?? Number.MAX_SAFE_INTEGER;
  switch (rule.type) {
    case "boolean":
      if (typeof value !== "boolean") throw malformed(`${what} is not true or false`);
      return;
    case "integer":
      if (!Number.isSafeInteger(value) || (value as number) < min || (value as number) > max) {
        throw malformed(`${what} is not a whole number from ${min} to ${max}`);
      }
      return;
    case "string":
    case "base64": {
      if (typeof value !== "string") throw malformed(`${what} is not text`);
      const length = rule.type === "base64" ? decodedLength(value, what) : Buffer.byteLength(value);
      if (length < min || length > max) {
        throw malformed(`${what} has ${length} bytes, expected ${min} to ${max}`);
      }
      if (rule.oneOf !== undefined && !rule.oneOf.includes(value)) {
        throw malformed(`${what} is none of ${rule.oneOf.join(", ")}`);
      }
      return;
    }
    case "array": {
      if (!Array.isArray(value)) throw malformed(`${what} is not a list`);
      const list = value as readonly Json[];
      if (list.length < min || list.length > max) {
        throw malformed(`${what} has ${list.length} elements, expected ${min} to ${max}`);
      }
      const of = rule.of;
      if (of !== undefined) for (const [i, v] of list.entries()) checkValue(v, of, `${what}[${i}]`);
      return;
    }
    default: {
      const members = TYPES[rule.type];
      if (members === undefined) throw new GuestError("CONTROL_MALFORMED", "bug", `no type ${rule.type}`);
      checkMembers(asObject(value, what), members, what, false);
    }
  }
}

function decodedLength(text: string, what: string): number {
  // Shelter's own base64 always pads: the form without padding would be a second spelling.
  if (text.length % 4 !== 0) throw malformed(`${what} is not base64`);
  try {
    return fromBase64(text).byteLength;
  } catch (cause) {
    throw new GuestError("CONTROL_MALFORMED", "malformed", `${what} is not base64`, { cause });
  }
}

const BROKER_PATH = /^\/kbs\/v0\/[A-Za-z0-9._~!$&'()*+,;=:@%/?-]+$/;
const HEADER_VALUE = /^[\x20-\x7e]+$/;

/** Whether a path stays below `/kbs/v0/` however a server normalises it. */
export function isBrokerPath(path: string): boolean {
  if (!BROKER_PATH.test(path)) return false;
  const segments = (path.split("?", 1)[0] as string).split("/");
  return segments.every((s) => !/^(\.|%2e){1,2}$/i.test(s)) && !/%(2f|5c|00)/i.test(path);
}

/** The rules behind a member's type, by its name. */
function checkMeaning(key: string, value: Json, what: string): void {
  switch (key) {
    case "path":
      if (!isBrokerPath(value as string)) throw malformed(`${what}.path is not below /kbs/v0/`);
      return;
    case "cookie":
    case "bearer":
      if (!HEADER_VALUE.test(value as string)) throw malformed(`${what}.${key} does not fit a header`);
      return;
    case "args":
    case "argv":
      for (const arg of (value ?? []) as readonly string[]) {
        if (arg.includes("\0")) throw malformed(`${what}.${key} holds a NUL`);
      }
      return;
    case "env":
      for (const entry of value as readonly string[]) {
        if (entry.indexOf("=") < 1 || entry.includes("\0")) {
          throw malformed(`${what}.env has an entry that is not NAME=VALUE`);
        }
      }
      return;
    case "hostname":
      if (!/^[A-Za-z0-9._-]+$/.test(value as string)) throw malformed(`${what}.hostname is not a host name`);
      return;
    case "target":
      if (!isPlainPath(value as string)) throw malformed(`${what}.target is not a plain absolute path`);
      return;
    case "streams": {
      const ids = Object.values(value as JsonObject);
      if (new Set(ids).size !== ids.length) throw malformed(`${what}.streams names one stream twice`);
      return;
    }
  }
}

/** Absolute, at least one component, and none of them empty, `.` or `..`. */
function isPlainPath(path: string): boolean {
  if (!path.startsWith("/") || path.includes("\0")) return false;
  return path
    .slice(1)
    .split("/")
    .every((c) => c !== "" && c !== "." && c !== "..");
}
