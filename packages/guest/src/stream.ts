import { Duplex } from "node:stream";
import schema from "../../../schema/agent-protocol.json" with { type: "json" };
import { GuestError } from "./errors.ts";
import { MAX_DATA } from "./frame.ts";

/** Bytes each direction of a stream may carry before the first window frame. */
export const INITIAL_WINDOW: number = schema.limits.initialWindow;

/** No window ever grows past this. */
export const MAX_WINDOW: number = schema.limits.maxWindow;

/** Credit is given back in pieces of at least this, so that a slow reader does not cause a frame per byte. */
const CREDIT_STEP = INITIAL_WINDOW / 4;

/**
 * Which way bytes go on a stream.
 *
 * - `out`: only to the peer (a process's stdin). - `in`: only from it (stdout, stderr). - `both`.
 */
export type Direction = "in" | "out" | "both";

/** What a stream needs of the connection it runs on. */
export interface StreamLink {
  /** Sends frames; false when the connection wants no more until it calls `flow()`. */
  sendData(stream: number, payload: Uint8Array): boolean;
  sendWindow(stream: number, bytes: number): void;
  sendClose(stream: number): void;
  sendReset(stream: number, reason: string): void;
  /** Whether data may be sent now; a stream that may not is called back through `flow()`. */
  readonly congested: boolean;
  wait(stream: GuestStream): void;
  forget(stream: GuestStream): void;
}

/**
 * One flow-controlled stream of a session as a Node stream. What was received and not yet read never
 * exceeds the window given to the peer, and a write completes only when the peer's window took it.
 */
export class GuestStream extends Duplex {
  readonly id: number;
  readonly direction: Direction;
  readonly #link: StreamLink;
  #sendWindow = INITIAL_WINDOW;
  /** Bytes received, and bytes of window given, since the start: the peer may never pass the second. */
  #received = 0;
  #granted = INITIAL_WINDOW;
  #pending: { chunk: Uint8Array; at: number; done: (error?: Error | null) => void } | null = null;
  #localDone: boolean;
  #remoteDone: boolean;
  #gone = false;

  constructor(id: number, direction: Direction, link: StreamLink) {
    super({
      allowHalfOpen: true,
      readableHighWaterMark: CREDIT_STEP,
      writableHighWaterMark: CREDIT_STEP,
      autoDestroy: true,
    });
    this.id = id;
    this.direction = direction;
    this.#link = link;
    this.#localDone = direction === "in";
    this.#remoteDone = direction === "out";
    // A direction that does not exist is finished at once, so that the stream as a whole can end.
    if (direction === "in") super.end();
    if (direction === "out") {
      this.push(null);
      this.resume();
    }
  }

  override _read(): void {
    // What left the readable buffer is what the reader took.
    const credit = this.#received - this.readableLength - (this.#granted - INITIAL_WINDOW);
    if (credit >= CREDIT_STEP && !this.#remoteDone && !this.#gone) {
      this.#granted += credit;
      this.#link.sendWindow(this.id, credit);
    }
  }

  override _write(chunk: Uint8Array, _encoding: string, done: (error?: Error | null) => void): void {
    if (this.#gone || this.#localDone) {
      done();
      return;
    }
    this.#pending = { chunk, at: 0, done };
    this.flow();
  }

  override _final(done: (error?: Error | null) => void): void {
    if (!this.#localDone && !this.#gone) {
      this.#localDone = true;
      this.#link.sendClose(this.id);
      this.#settle();
    }
    done();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    const pending = this.#pending;
    this.#pending = null;
    if (!this.#gone) {
      this.#gone = true;
      if (!(this.#localDone && this.#remoteDone)) {
        this.#link.sendReset(this.id, error === null ? "closed" : error.message);
      }
      this.#link.forget(this);
    }
    pending?.done(error);
    done(error);
  }

  /** Sends what the peer's window and the connection allow. */
  flow(): void {
    for (let p = this.#pending; p !== null && !this.#gone; p = this.#pending) {
      if (this.#sendWindow === 0) return;
      if (this.#link.congested) {
        this.#link.wait(this);
        return;
      }
      const size = Math.min(MAX_DATA, this.#sendWindow, p.chunk.byteLength - p.at);
      this.#sendWindow -= size;
      this.#link.sendData(this.id, p.chunk.subarray(p.at, p.at + size));
      p.at += size;
      if (p.at === p.chunk.byteLength) {
        this.#pending = null;
        p.done();
      }
    }
  }

  /** Data came from the peer. */
  receive(payload: Uint8Array): void {
    if (this.#remoteDone) {
      throw new GuestError("CONTROL_UNEXPECTED", "malformed", `data behind the end of stream ${this.id}`);
    }
    this.#received += payload.byteLength;
    if (this.#received > this.#granted) {
      throw new GuestError("WINDOW_EXCEEDED", "malformed", `stream ${this.id} was sent more than its window`);
    }
    // A copy: the payload is a view into a piece that would otherwise live as long as one byte of it.
    this.push(Buffer.from(payload));
  }

  /** The peer gave `bytes` more of window. */
  widen(bytes: number): void {
    this.#sendWindow += bytes;
    if (this.#sendWindow > MAX_WINDOW) {
      throw new GuestError(
        "WINDOW_OVERFLOW",
        "malformed",
        `the window of stream ${this.id} grew past ${MAX_WINDOW}`,
      );
    }
    this.flow();
  }

  /** The peer sends no more. */
  receiveClose(): void {
    if (this.#remoteDone) return;
    this.#remoteDone = true;
    this.push(null);
    this.#settle();
  }

  /** The peer is done with this stream: a broken pipe for a writer, an early end for a reader. */
  receiveReset(reason: string): void {
    if (this.#gone) return;
    this.#gone = true;
    this.#link.forget(this);
    const pending = this.#pending;
    this.#pending = null;
    this.#localDone = true;
    pending?.done();
    if (this.direction === "both") {
      this.destroy(
        new GuestError("STREAM_RESET", "unavailable", reason === "" ? "the stream was reset" : reason),
      );
    } else if (this.direction === "out") {
      // A process may close its input whenever it likes; whoever feeds it sees `close`, as with a pipe
      // whose reader has gone, and not an error.
      this.destroy();
    } else if (!this.#remoteDone) {
      this.#remoteDone = true;
      this.push(null);
    }
  }

  /** The process or session this stream belongs to is over; what was received stays readable. */
  finish(): void {
    this.receiveReset("");
  }

  /** Both directions have ended: the id is free of meaning from here on. */
  #settle(): void {
    if (this.#localDone && this.#remoteDone && !this.#gone) {
      this.#gone = true;
      this.#link.forget(this);
    }
  }
}
