import type { Duplex, Readable, Writable } from "node:stream";

/** Rows and columns of a terminal. */
export interface TerminalSize {
  readonly rows: number;
  readonly cols: number;
}

/** How a process ended: exactly one of the two is set. */
export type ProcessExit = { readonly code: number } | { readonly signal: number };

/** The status a shell would show: the code itself, or 128 + the signal. */
export function exitStatus(exit: ProcessExit): number {
  return "code" in exit ? exit.code : 128 + exit.signal;
}

/** A directory (or file) of the host that the guest sees at `target`. */
export interface MountRequest {
  readonly source: string;
  readonly target: string;
  readonly readOnly: boolean;
}

/** What the main process is given on top of the manifest. */
export interface RunRequest {
  /** Arguments behind the entrypoint, or null for those of the manifest. */
  readonly args: readonly string[] | null;
  /** `KEY=VALUE` each. */
  readonly env: readonly string[];
  readonly tty: boolean;
  readonly size?: TerminalSize | undefined;
  readonly stdin: boolean;
  readonly mounts: readonly MountRequest[];
  readonly hostname: string;
}

/** One more process in a running guest. */
export interface ExecRequest {
  readonly argv: readonly string[];
  readonly env: readonly string[];
  readonly tty: boolean;
  readonly size?: TerminalSize | undefined;
  readonly stdin: boolean;
}

/** A process in the guest as the host holds it. */
export interface GuestProcess {
  readonly id: number;
  readonly tty: boolean;
  /** Ends the process's input on `end()`; ignores what comes after the process has closed it. */
  readonly stdin: Writable;
  readonly stdout: Readable;
  /** Ends at once with a TTY. */
  readonly stderr: Readable;
  /** Rejects with `GUEST_REFUSED`, `GUEST_FAILED` or `GUEST_LOST`. */
  readonly started: Promise<void>;
  /** Settles after all output has been received. Rejects as `started` does. */
  readonly exit: Promise<ProcessExit>;
  signal(number: number): void;
  resize(size: TerminalSize): void;
}

/** A boot step the guest reported. */
export interface GuestStep {
  readonly step: string;
  /** Milliseconds since its kernel started, by the guest's clock. */
  readonly ms: number;
  /** `performance.now()` of this process when the report came. */
  readonly at: number;
}

/** One request of the guest to its broker. */
export interface RelayRequest {
  readonly method: "GET" | "POST";
  /** Begins with `/kbs/v0/`. */
  readonly path: string;
  readonly cookie?: string | undefined;
  readonly bearer?: string | undefined;
  readonly body?: Uint8Array | undefined;
}

/** The broker's answer, whatever its status. */
export interface RelayResponse {
  readonly status: number;
  readonly cookie?: string | undefined;
  readonly body: Uint8Array;
}

/** Carries a request to the broker; a rejection reaches the guest as `http-error` with its message. */
export type Relay = (request: RelayRequest) => Promise<RelayResponse>;

/** What a session needs to boot a guest. */
export interface SessionOptions {
  /** The connection to the agent; the session owns it. */
  readonly transport: Duplex;
  /** Exact bytes of `manifest.json`. */
  readonly manifest: Uint8Array;
  /** Whether evidence is demanded even if the manifest names no secret. */
  readonly attest: boolean;
  readonly now: Date;
  readonly run: RunRequest;
  readonly relay: Relay;
  readonly onStep?: ((step: GuestStep) => void) | undefined;
}

/** One TCP connection to a granted port inside the guest. */
export type GuestConnection = Duplex;
