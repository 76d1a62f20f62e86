export { GuestError, type GuestErrorCode } from "./errors.ts";
export { listenForward, type PortForward } from "./forward.ts";
export { encodeFrame, FRAME_HEADER, type Frame, FrameDecoder, type FrameKind, MAX_DATA } from "./frame.ts";
export { FuseServer, serveFiles } from "./fuse/server.ts";
export { MountSource } from "./fuse/source.ts";
export { checkMessage, isBrokerPath, parseMessage, type Side } from "./messages.ts";
export { Mux, type MuxEvents, printable } from "./mux.ts";
export { type BrokerOptions, brokerRelay, noBroker } from "./relay.ts";
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
export { Session } from "./session.ts";
export { type Direction, GuestStream, INITIAL_WINDOW, MAX_WINDOW } from "./stream.ts";
