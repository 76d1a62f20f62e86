import { createHash } from "node:crypto";
import { fromHex, type Json, parseJson, sameBytes } from "@shelter/base";
import { EVENT, EventLogError, parseEventLog, replay } from "../eventlog/index.ts";

/** What replaying a log says the RTMRs must hold, and what is odd about the log. */
export interface RtmrReplay {
  /** RTMR0 to RTMR3; zeros where the log has no event. */
  readonly rtmrs: readonly Uint8Array[];
  /** Registers the log has no event of and that others than its writer extend. */
  readonly silent: ReadonlySet<number>;
  readonly events: number;
  /** Events whose data does not have the digest that was measured. */
  readonly forged: readonly string[];
}

const RTMR_COUNT = 4;
const DIGEST_SIZE = 48;
const MAX_LOG_SIZE = 16 << 20;
const MAX_EVENTS = 20_000;
/** Event that dstack's guest agent extends RTMR3 with. */
const DSTACK_RUNTIME_EVENT = 0x08000001;

/**
 * Replays a TD's event log: the binary form of an ACPI CCEL table (measurement register 1 is RTMR0),
 * or a JSON list of `{imr, event_type, digest, event, event_payload}`.
 */
export function replayRtmrs(bytes: Uint8Array): RtmrReplay {
  const first = bytes.find((b) => b !== 0x20 && b !== 0x0a && b !== 0x0d && b !== 0x09);
  return first === 0x5b ? replayJson(bytes) : replayCcel(bytes);
}

function replayCcel(bytes: Uint8Array): RtmrReplay {
  const log = parseEventLog(bytes);
  if (!log.banks.includes("sha384"))
    throw new EventLogError("event log of a trust domain without SHA-384 digests");
  for (const event of log.events) {
    if (event.type === EVENT.NO_ACTION) continue;
    if (event.pcr > RTMR_COUNT)
      throw new EventLogError(`event log: measurement register ${event.pcr} does not exist`);
    if (!event.digests.has("sha384"))
      throw new EventLogError(`event log: event ${event.index} has no SHA-384 digest`);
  }
  const registers = replay(log, "sha384");
  const rtmrs = Array.from(
    { length: RTMR_COUNT },
    (_, i) => registers.get(i + 1) ?? new Uint8Array(DIGEST_SIZE),
  );
  // The firmware's log ends when the kernel takes over, and RTMR3 is extended only after that.
  const silent = new Set(registers.has(4) ? [] : [3]);
  return { rtmrs, silent, events: log.events.length, forged: [] };
}

function replayJson(bytes: Uint8Array): RtmrReplay {
  if (bytes.byteLength > MAX_LOG_SIZE) throw new EventLogError(`event log: ${bytes.byteLength} bytes`);
  const list = parseJson(new TextDecoder().decode(bytes), "event log");
  if (!Array.isArray(list) || list.length > MAX_EVENTS) {
    throw new EventLogError(`event log: expected a list of at most ${MAX_EVENTS} events`);
  }
  const rtmrs = Array.from({ length: RTMR_COUNT }, () => new Uint8Array(DIGEST_SIZE));
  const forged: string[] = [];
  for (const [i, entry] of list.entries()) {
    const event = readJsonEvent(entry as Json, i);
    const before = rtmrs[event.imr] ?? new Uint8Array(DIGEST_SIZE);
    rtmrs[event.imr] = new Uint8Array(createHash("sha384").update(before).update(event.digest).digest());
    if (event.type === DSTACK_RUNTIME_EVENT && !sameBytes(event.digest, runtimeDigest(event))) {
      forged.push(`event ${i} (${event.name})`);
    }
  }
  return { rtmrs, silent: new Set(), events: list.length, forged };
}

interface JsonEvent {
  readonly imr: number;
  readonly type: number;
  readonly digest: Uint8Array;
  readonly name: string;
  readonly payload: Uint8Array;
}

function readJsonEvent(entry: Json, index: number): JsonEvent {
  if (typeof entry !== "object" || entry === null || Array.isArray(entry)) {
    throw new EventLogError(`event log: event ${index} is not an object`);
  }
  const {
    imr,
    event_type: type,
    digest,
    event: name,
    event_payload: payload,
  } = entry as Record<string, Json | undefined>;
  const whole = (n: unknown, max: number): n is number =>
    typeof n === "number" && Number.isInteger(n) && n >= 0 && n <= max;
  if (!whole(imr, RTMR_COUNT - 1) || !whole(type, 0xffffffff)) {
    throw new EventLogError(`event log: event ${index} has no imr from 0 to 3 or no event_type`);
  }
  if (typeof digest !== "string" || digest.length !== DIGEST_SIZE * 2) {
    throw new EventLogError(`event log: event ${index} has no SHA-384 digest`);
  }
  return {
    imr,
    type,
    digest: fromHex(digest),
    name: typeof name === "string" ? name : "",
    payload: typeof payload === "string" ? fromHex(payload) : new Uint8Array(),
  };
}

function runtimeDigest(event: JsonEvent): Uint8Array {
  const type = new Uint8Array(4);
  new DataView(type.buffer).setUint32(0, event.type, true);
  return createHash("sha384").update(type).update(`:${event.name}:`).update(event.payload).digest();
}
