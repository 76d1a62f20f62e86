import type { Duplex } from "node:stream";
import type { JsonObject } from "@shelter/base";
import schema from "../../../schema/agent-protocol.json" with { type: "json" };
import { GuestError } from "./errors.ts";
import { encodeFrame, type Frame, FrameDecoder, frameHeader, MAX_CONTROL } from "./frame.ts";
import { type Direction, GuestStream, type StreamLink } from "./stream.ts";

/** Most streams open at once. */
export const MAX_STREAMS: number = schema.limits.maxStreams;

/** Answers that pile up past this mean a peer that sends and never reads. */
const MAX_BACKLOG = 8 << 20;

/** What a connection reports to whoever runs it. */
export interface MuxEvents {
  /** The payload of a control frame. */
  control(payload: Uint8Array): void;
  /** The connection is over: undefined for a clean end. Called once. */
  ended(error: Error | undefined): void;
}

/** Frames, control messages and flow-controlled streams over one byte stream. Both ends of a connection can use it. */
export class Mux implements StreamLink {
  readonly #transport: Duplex;
  readonly #events: MuxEvents;
  readonly #streams = new Map<number, GuestStream>();
  readonly #waiting = new Set<GuestStream>();
  #nextId = 1;
  #over = false;
  /** Frames about streams the peer has not been told of yet; null once it has. */
  #held: Buffer[] | null;

  /** A connection that is `held` sends nothing about streams until `release`. */
  constructor(transport: Duplex, events: MuxEvents, held = false) {
    this.#transport = transport;
    this.#held = held ? [] : null;
    this.#events = events;
    const decoder = new FrameDecoder((frame) => {
      if (!this.#over) this.#receive(frame);
    });
    transport.on("data", (piece: Uint8Array) => {
      if (this.#over) return;
      try {
        decoder.push(piece);
      } catch (error) {
        this.close(error as Error);
      }
    });
    transport.on("drain", () => this.#drained());
    transport.on("end", () => {
      try {
        decoder.end();
        this.close();
      } catch (error) {
        this.close(error as Error);
      }
    });
    transport.on("error", (error) => this.close(error));
    transport.on("close", () => this.close());
  }

  get over(): boolean {
    return this.#over;
  }

  /** Number of streams open. */
  get open(): number {
    return this.#streams.size;
  }

  /** Opens the next stream; only one end of a connection may choose numbers. */
  stream(direction: Direction): GuestStream {
    return this.accept(this.#nextId++, direction);
  }

  /** Takes part in a stream whose number the other end chose. */
  accept(id: number, direction: Direction): GuestStream {
    if (this.#over) throw new GuestError("SESSION_CLOSED", "unavailable", "the connection is closed");
    if (this.#streams.size >= MAX_STREAMS) {
      throw new GuestError("STREAM_LIMIT", "unavailable", `${MAX_STREAMS} streams are open already`);
    }
    if (this.#streams.has(id))
      throw new GuestError("STREAM_LIMIT", "malformed", `stream ${id} is open already`);
    const stream = new GuestStream(id, direction, this);
    this.#streams.set(id, stream);
    return stream;
  }

  /** Sends a control message. */
  control(message: JsonObject): void {
    const payload = Buffer.from(JSON.stringify(message));
    if (payload.byteLength > MAX_CONTROL) {
      throw new GuestError(
        "REQUEST_INVALID",
        "usage",
        `arguments, environment and manifest come to ${payload.byteLength} bytes, at most ${MAX_CONTROL} fit`,
      );
    }
    this.#send(encodeFrame("control", 0, payload));
  }

  /** Lets streams go, behind the control message that tells the peer about them. */
  release(): void {
    const held = this.#held ?? [];
    this.#held = null;
    for (const frame of held) this.#send(frame);
    this.#drained();
  }

  /** Ends the connection; streams end with it. */
  close(error?: Error): void {
    if (this.#over) return;
    this.#over = true;
    const streams = [...this.#streams.values()];
    this.#streams.clear();
    this.#waiting.clear();
    for (const stream of streams) {
      if (stream.direction === "both" && error !== undefined) stream.destroy(error);
      else stream.finish();
    }
    // Bytes already written still go out: the last message of a session is often its most important one.
    this.#transport.end();
    this.#events.ended(error);
  }

  get congested(): boolean {
    return this.#held !== null || this.#transport.writableNeedDrain;
  }

  sendData(stream: number, payload: Uint8Array): boolean {
    if (this.#over || this.#transport.writableEnded) return true;
    this.#transport.cork();
    this.#transport.write(frameHeader("data", stream, payload.byteLength));
    const more = this.#transport.write(payload);
    this.#transport.uncork();
    return more;
  }

  sendWindow(stream: number, bytes: number): void {
    const payload = Buffer.allocUnsafe(4);
    payload.writeUInt32LE(bytes);
    this.#aboutStream(encodeFrame("window", stream, payload));
  }

  sendClose(stream: number): void {
    this.#aboutStream(encodeFrame("close", stream, new Uint8Array()));
  }

  sendReset(stream: number, reason: string): void {
    this.#aboutStream(encodeFrame("reset", stream, shorten(reason, schema.frame.kinds.reset.max)));
  }

  wait(stream: GuestStream): void {
    this.#waiting.add(stream);
  }

  forget(stream: GuestStream): void {
    this.#waiting.delete(stream);
    if (this.#streams.get(stream.id) === stream) this.#streams.delete(stream.id);
  }

  #aboutStream(frame: Buffer): void {
    if (this.#held === null) this.#send(frame);
    else if (this.#held.length < MAX_STREAMS * 4) this.#held.push(frame);
  }

  #send(bytes: Uint8Array): void {
    if (this.#over || this.#transport.writableEnded || this.#transport.destroyed) return;
    this.#transport.write(bytes);
    if (this.#transport.writableLength > MAX_BACKLOG) {
      this.close(new GuestError("PEER_DEAF", "malformed", "the peer sends and does not read"));
    }
  }

  /** Streams that waited go on in turn, one write each, so that a busy one does not starve the others. */
  #drained(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const stream of waiting) stream.flow();
  }

  #receive(frame: Frame): void {
    if (frame.kind === "control") {
      this.#events.control(frame.payload);
      return;
    }
    const stream = this.#streams.get(frame.stream);
    if (stream === undefined) {
      if (frame.kind === "data") this.sendReset(frame.stream, "no such stream");
      return;
    }
    switch (frame.kind) {
      case "data":
        if (stream.direction === "out") this.sendReset(frame.stream, "not readable");
        else stream.receive(frame.payload);
        return;
      case "window": {
        const view = new DataView(frame.payload.buffer, frame.payload.byteOffset, 4);
        stream.widen(view.getUint32(0, true));
        return;
      }
      case "close":
        stream.receiveClose();
        return;
      case "reset":
        stream.receiveReset(printable(Buffer.from(frame.payload).toString("utf8")));
        return;
      default:
        frame.kind satisfies never;
    }
  }
}

/** UTF-8 of at most `limit` bytes, cut between characters. */
function shorten(text: string, limit: number): Uint8Array {
  let bytes = Buffer.from(text);
  if (bytes.byteLength <= limit) return bytes;
  let end = limit;
  while (end > 0 && ((bytes[end] as number) & 0xc0) === 0x80) end--;
  bytes = bytes.subarray(0, end);
  return bytes;
}

/** Text of the guest made fit for a terminal: one line, no control characters. */
export function printable(text: string): string {
  return text.replace(/[\p{Cc}\p{Cf}\p{Co}\p{Cn}\u2028\u2029]+/gu, " ").trim();
}
