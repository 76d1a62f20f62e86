import { PassThrough, type Readable } from "node:stream";
import type { InstanceLog } from "./log.ts";

/** Bytes of the end of the output kept for an error message. */
const MAX_TAIL = 1024;

/**
 * One output of the main process: into the log, and to everybody who watches. The slowest watcher sets the
 * pace, as the reader of a pipe does; whoever leaves holds up nobody.
 */
export class Output {
  readonly #source: Readable;
  readonly #sinks = new Set<PassThrough>();
  readonly #full = new Set<PassThrough>();
  #tail = Buffer.alloc(0);
  #ended = false;

  constructor(source: Readable, stream: "stdout" | "stderr", log: InstanceLog) {
    this.#source = source;
    source.on("data", (chunk: Buffer) => {
      log.write(stream, chunk);
      const joined = chunk.length >= MAX_TAIL ? chunk : Buffer.concat([this.#tail, chunk]);
      this.#tail = Buffer.from(joined.subarray(-MAX_TAIL));
      for (const sink of this.#sinks) {
        if (!sink.write(chunk)) this.#full.add(sink);
      }
      if (this.#full.size > 0) source.pause();
    });
    const end = (): void => {
      this.#ended = true;
      for (const sink of this.#sinks) sink.end();
    };
    source.on("end", end);
    source.on("close", end);
    source.on("error", end);
  }

  /** The end of what was put out. */
  get tail(): string {
    return this.#tail.toString("utf8");
  }

  /**
   * A reader of everything from now on. When the owner's reader is closed the guest's side is too, so that
   * the program sees a broken pipe; anybody else just leaves.
   */
  watch(owner: boolean): Readable {
    const sink = new PassThrough();
    if (this.#ended) {
      sink.end();
      return sink;
    }
    this.#sinks.add(sink);
    sink.on("drain", () => this.#go(sink));
    sink.on("close", () => {
      this.#sinks.delete(sink);
      this.#go(sink);
      if (owner && !this.#ended) this.#source.destroy();
    });
    sink.on("error", () => {});
    return sink;
  }

  #go(sink: PassThrough): void {
    this.#full.delete(sink);
    if (this.#full.size === 0) this.#source.resume();
  }
}
