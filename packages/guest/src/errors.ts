import { type ErrorKind, ShelterError } from "@shelter/base";

/**
 * What ended a conversation with a guest, or kept it from starting.
 *
 * - the names of `protocolErrors` in `schema/agent-protocol.json`: the peer broke the protocol.
 * - `GUEST_REFUSED`: the manifest does not grant what was asked; the hint names the line to change.
 * - `GUEST_FAILED`: the guest reported that it cannot go on; `detail` is its own code.
 * - `GUEST_LOST`: the connection ended without a word.
 */
export type GuestErrorCode =
  | "FRAME_KIND_UNKNOWN"
  | "FRAME_LENGTH_INVALID"
  | "FRAME_STREAM_INVALID"
  | "FRAME_TRUNCATED"
  | "CONTROL_MALFORMED"
  | "CONTROL_UNKNOWN"
  | "CONTROL_UNEXPECTED"
  | "WINDOW_EXCEEDED"
  | "WINDOW_OVERFLOW"
  | "STREAM_LIMIT"
  | "STREAM_RESET"
  | "PEER_DEAF"
  | "GUEST_REFUSED"
  | "GUEST_FAILED"
  | "GUEST_LOST"
  | "REQUEST_INVALID"
  | "MOUNT_SOURCE"
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
    kind: ErrorKind,
    message: string,
    options: { cause?: unknown; hint?: string; detail?: string; step?: string } = {},
  ) {
    super(code, kind, message, options);
    this.detail = options.detail;
    this.step = options.step;
  }
}
