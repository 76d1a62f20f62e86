import { ShelterError } from "@shelter/base";

/** What is wrong with an event log. */
export type EventLogErrorCode = "EVENT_LOG_MALFORMED";

/** A log that does not have the form it claims. */
export class EventLogError extends ShelterError<EventLogErrorCode> {
  constructor(message: string, options: { cause?: unknown } = {}) {
    super("EVENT_LOG_MALFORMED", "malformed", message, options);
  }
}
