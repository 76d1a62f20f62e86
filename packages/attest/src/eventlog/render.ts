import { toHex } from "@shelter/base";
import { type Field, field, group } from "../describe.ts";
import { contentState } from "./content.ts";
import { eventTypeName, parseEventLog } from "./log.ts";
import { replayAll } from "./replay.ts";
import { explainLog } from "./words.ts";

/** A log event by event, in words, and what it replays to. */
export function renderEventLog(bytes: Uint8Array): readonly Field[] {
  const log = parseEventLog(bytes);
  const events = explainLog(log).map(({ event, component, text }) =>
    group(
      `event ${event.index}`,
      [
        field("pcrIndex", event.pcr),
        field("eventType", eventTypeName(event.type)),
        group(
          "digests",
          [...event.digests].map(([hash, value]) => field(hash, value)),
        ),
        field("component", component),
        field("data", contentState(event)),
      ],
      text,
    ),
  );
  const banks = [...replayAll(log)].map(([bank, registers]) =>
    group(
      bank,
      [...registers]
        .sort(([a], [b]) => a - b)
        .map(([register, value]) => field(String(register), toHex(value))),
    ),
  );
  return [
    field("format", log.format),
    group("events", events, String(events.length)),
    group("replay", banks),
  ];
}
