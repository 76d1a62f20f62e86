import { Duplex, PassThrough } from "node:stream";

/** One frame as the wire has it, by number: written from docs/agent-protocol.md and not from our codec. */
export interface WireFrame {
  readonly kind: number;
  readonly stream: number;
  readonly payload: Buffer;
}

/** Two ends of a connection in memory; `chunk` cuts what each side reads into pieces of so many bytes. */
export function pipePair(chunk = 0): [Duplex, Duplex] {
  const a = new PassThrough({ highWaterMark: 65536 });
  const b = new PassThrough({ highWaterMark: 65536 });
  const end = (readable: PassThrough, writable: PassThrough): Duplex =>
    Duplex.from({ readable: chunk === 0 ? readable : cut(readable, chunk), writable }) as Duplex;
  return [end(a, b), end(b, a)];
}

async function* cut(source: PassThrough, size: number): AsyncGenerator<Buffer> {
  for await (const piece of source as AsyncIterable<Buffer>) {
    for (let at = 0; at < piece.length; at += size) yield piece.subarray(at, at + size);
  }
}

/** The guest's end of a session, driven by a test. Keeps every frame it got. */
export class FakeAgent {
  readonly frames: WireFrame[] = [];
  readonly transport: Duplex;
  #waiting: (() => void)[] = [];
  #rest = Buffer.alloc(0);
  closed = false;

  constructor(transport: Duplex) {
    this.transport = transport;
    transport.on("data", (piece: Buffer) => this.#take(piece));
    const end = (): void => {
      this.closed = true;
      this.#wake();
    };
    transport.on("end", end);
    transport.on("close", end);
    transport.on("error", end);
  }

  send(kind: number, stream: number, payload: Buffer | string = ""): void {
    const body = Buffer.from(payload as string);
    const header = Buffer.alloc(9);
    header.writeUInt32LE(body.length, 0);
    header.writeUInt8(kind, 4);
    header.writeUInt32LE(stream, 5);
    this.transport.write(Buffer.concat([header, body]));
  }

  say(message: object): void {
    this.send(1, 0, JSON.stringify(message));
  }

  data(stream: number, bytes: Buffer | string): void {
    this.send(2, stream, bytes);
  }

  window(stream: number, bytes: number): void {
    const payload = Buffer.alloc(4);
    payload.writeUInt32LE(bytes);
    this.send(3, stream, payload);
  }

  /** Waits until a frame the predicate likes has come. */
  async until<T>(look: (frames: readonly WireFrame[]) => T | undefined, what: string): Promise<T> {
    const deadline = Date.now() + 20_000;
    for (;;) {
      const found = look(this.frames);
      if (found !== undefined) return found;
      if (this.closed || Date.now() > deadline) {
        throw new Error(`the host never sent ${what}; it sent ${this.frames.map(show).join(" | ")}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 200);
        this.#waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
  }

  /** The next control message of a type. */
  message(type: string, nth = 0): Promise<Record<string, unknown>> {
    return this.until((frames) => {
      const all = frames.filter((f) => f.kind === 1).map((f) => JSON.parse(f.payload.toString()));
      return all.filter((m: { type: string }) => m.type === type)[nth];
    }, type);
  }

  /** Bytes of data that came on a stream so far. */
  received(stream: number): Buffer {
    return Buffer.concat(
      this.frames.filter((f) => f.kind === 2 && f.stream === stream).map((f) => f.payload),
    );
  }

  #take(piece: Buffer): void {
    this.#rest = Buffer.concat([this.#rest, piece]);
    while (this.#rest.length >= 9) {
      const length = this.#rest.readUInt32LE(0);
      if (this.#rest.length < 9 + length) break;
      this.frames.push({
        kind: this.#rest.readUInt8(4),
        stream: this.#rest.readUInt32LE(5),
        payload: Buffer.from(this.#rest.subarray(9, 9 + length)),
      });
      this.#rest = this.#rest.subarray(9 + length);
    }
    this.#wake();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}

function show(frame: WireFrame): string {
  const body = frame.kind === 1 ? frame.payload.toString().slice(0, 80) : `${frame.payload.length} bytes`;
  return `kind ${frame.kind} stream ${frame.stream}: ${body}`;
}

/** A generator with a seed (mulberry32), so that a random test can be run again. */
export function seeded(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = a;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}
