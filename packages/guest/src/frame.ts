import schema from "../../../schema/agent-protocol.json" with { type: "json" };
import { GuestError } from "./errors.ts";

/** The kinds of frame, by their number on the wire. */
export const FRAME = { control: 1, data: 2, window: 3, close: 4, reset: 5 } as const;

/** Name of a frame kind. */
export type FrameKind = keyof typeof FRAME;

/** One frame. `payload` may be a view into the bytes that were pushed. */
export interface Frame {
  readonly kind: FrameKind;
  readonly stream: number;
  readonly payload: Uint8Array;
}

/** Bytes before a payload: `u32le length | u8 kind | u32le stream`. */
export const FRAME_HEADER: number = schema.frame.header;

/** Most bytes one data frame carries. */
export const MAX_DATA: number = schema.frame.kinds.data.max;

/** Most bytes of one control message. */
export const MAX_CONTROL: number = schema.frame.kinds.control.max;

interface KindRule {
  readonly name: FrameKind;
  readonly onStream: boolean;
  readonly min: number;
  readonly max: number;
}

const RULES: readonly (KindRule | undefined)[] = (() => {
  const rules: KindRule[] = [];
  for (const name of Object.keys(FRAME) as FrameKind[]) {
    const rule = schema.frame.kinds[name];
    rules[rule.kind] = { name, onStream: rule.stream === "nonzero", min: rule.min, max: rule.max };
  }
  return rules;
})();

/** The nine bytes in front of a payload. */
export function frameHeader(kind: FrameKind, stream: number, length: number): Buffer {
  const header = Buffer.allocUnsafe(FRAME_HEADER);
  header.writeUInt32LE(length, 0);
  header[4] = FRAME[kind];
  header.writeUInt32LE(stream, 5);
  return header;
}

/** One frame as bytes. */
export function encodeFrame(kind: FrameKind, stream: number, payload: Uint8Array): Buffer {
  return Buffer.concat([frameHeader(kind, stream, payload.byteLength), payload]);
}

/**
 * Cuts a byte stream into frames, whatever pieces it arrives in. Refuses a frame from its header, so it
 * never holds more than one frame and one pushed piece.
 */
export class FrameDecoder {
  readonly #onFrame: (frame: Frame) => void;
  #parts: Uint8Array[] = [];
  #length = 0;
  #failed = false;

  constructor(onFrame: (frame: Frame) => void) {
    this.#onFrame = onFrame;
  }

  /** Bytes of an unfinished frame. */
  get pending(): number {
    return this.#length;
  }

  /** Takes the next piece and reports each frame it completes. After a refusal, every push is refused. */
  push(piece: Uint8Array): void {
    if (this.#failed) throw new GuestError("FRAME_TRUNCATED", "malformed", "a frame after a refused one");
    if (piece.byteLength === 0) return;
    try {
      this.#take(piece);
    } catch (error) {
      this.#failed = true;
      this.#parts = [];
      throw error;
    }
  }

  /** Refuses an end inside a frame. */
  end(): void {
    if (this.#length > 0) {
      throw new GuestError(
        "FRAME_TRUNCATED",
        "malformed",
        `the connection ended ${this.#length} bytes into a frame`,
      );
    }
  }

  #take(piece: Uint8Array): void {
    let rest = piece;
    if (this.#length > 0) {
      this.#parts.push(piece);
      this.#length += piece.byteLength;
      // Joined only once the header, then once the whole frame is there: linear however small the pieces are.
      if (this.#length < FRAME_HEADER) return;
      const first = this.#parts[0] as Uint8Array;
      if (first.byteLength < FRAME_HEADER) this.#parts = [join(this.#parts, this.#length)];
      const { length } = readHeader(this.#parts[0] as Uint8Array, 0);
      if (this.#length < FRAME_HEADER + length) return;
      rest = join(this.#parts, this.#length);
      this.#parts = [];
      this.#length = 0;
    }
    let at = 0;
    while (rest.byteLength - at >= FRAME_HEADER) {
      const { rule, stream, length } = readHeader(rest, at);
      const end = at + FRAME_HEADER + length;
      if (end > rest.byteLength) break;
      this.#onFrame({ kind: rule.name, stream, payload: rest.subarray(at + FRAME_HEADER, end) });
      at = end;
    }
    if (at < rest.byteLength) {
      this.#parts = [rest.subarray(at)];
      this.#length = rest.byteLength - at;
    }
  }
}

function join(parts: readonly Uint8Array[], length: number): Uint8Array {
  return parts.length === 1 ? (parts[0] as Uint8Array) : Buffer.concat(parts, length);
}

function readHeader(bytes: Uint8Array, at: number): { rule: KindRule; stream: number; length: number } {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, FRAME_HEADER);
  const length = view.getUint32(0, true);
  const kind = view.getUint8(4);
  const stream = view.getUint32(5, true);
  const rule = RULES[kind];
  if (rule === undefined) {
    throw new GuestError("FRAME_KIND_UNKNOWN", "malformed", `a frame of unknown kind ${kind}`);
  }
  if (rule.onStream !== stream > 0) {
    throw new GuestError("FRAME_STREAM_INVALID", "malformed", `a ${rule.name} frame on stream ${stream}`);
  }
  if (length < rule.min || length > rule.max) {
    throw new GuestError(
      "FRAME_LENGTH_INVALID",
      "malformed",
      `a ${rule.name} frame of ${length} bytes, expected ${rule.min} to ${rule.max}`,
    );
  }
  return { rule, stream, length };
}
