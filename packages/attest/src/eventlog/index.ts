export { type ContentState, contentState } from "./content.ts";
export { EventLogError, type EventLogErrorCode } from "./error.ts";
export { type BootClaims, bootClaims, checkContents, checkReplay, type ReplayOptions } from "./judge.ts";
export { EVENT, type EventLog, eventTypeName, type LogEvent, parseEventLog } from "./log.ts";
export { renderEventLog } from "./render.ts";
export { type Registers, replay, replayAll } from "./replay.ts";
export { type Component, type ExplainedEvent, eventLine, explainLog } from "./words.ts";
