export { GuestError, type GuestErrorCode } from "./errors.ts";
export {
  type ExecRequest,
  exitStatus,
  type GuestConnection,
  type GuestProcess,
  type GuestStep,
  type MountRequest,
  type ProcessExit,
  type Relay,
  type RelayRequest,
  type RelayResponse,
  type RunRequest,
  type SessionOptions,
  type TerminalSize,
} from "./request.ts";
