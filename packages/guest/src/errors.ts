import { ShelterError } from "@shelter/base";

/**
 * What ended a conversation with a guest, or kept it from starting.
 *
 * - `FRAME_*`, `MESSAGE_*`, `STREAM_*`: the peer broke the protocol.
 * - `GUEST_REFUSED`: the manifest does not grant what was asked; the hint names the line to change.
 * - `GUEST_FAILED`: the guest reported that it cannot go on.
 * - `GUEST_LOST`: the connection ended without a word.
 */
export type GuestErrorCode =
  | "FRAME_TOO_LONG"
  | "FRAME_KIND"
  | "FRAME_STREAM"
  | "FRAME_TRUNCATED"
  | "MESSAGE_MALFORMED"
  | "MESSAGE_UNEXPECTED"
  | "STREAM_WINDOW"
  | "STREAM_LIMIT"
  | "STREAM_RESET"
  | "PROTOCOL_VERSION"
  | "GUEST_REFUSED"
  | "GUEST_FAILED"
  | "GUEST_LOST"
  | "MOUNT_SPEC"
  | "MOUNT_SOURCE"
  | "PORT_SPEC"
  | "PORT_BUSY"
  | "BROKER_URL"
  | "BROKER_PATH"
  | "BROKER_UNREACHABLE"
  | "BROKER_ANSWER"
  | "SESSION_CLOSED";

/** Anything that goes wrong between the host and a guest. */
export class GuestError extends ShelterError<GuestErrorCode> {
  /** What the guest itself calls the failure (`failed.code`), or the manifest key of a refusal. */
  readonly detail: string | undefined;
  /** The boot step the guest was at, where it said so. */
  readonly step: string | undefined;

  constructor(
    code: GuestErrorCode,
    kind: "usage" | "malformed" | "refused" | "unavailable" | "bug",
    message: string,
    options: { cause?: unknown; hint?: string; detail?: string; step?: string } = {},
  ) {
    super(code, kind, message, options);
    this.detail = options.detail;
    this.step = options.step;
  }
}
