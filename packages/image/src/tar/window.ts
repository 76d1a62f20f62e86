import { ImageError } from "../errors.ts";
import type { Feed } from "../feed.ts";

/** A window over a feed: contiguous bytes on demand, nothing copied twice, one buffer for its whole life. */
export class Window {
  readonly #feed: Feed;
  readonly #buffer: Buffer;
  readonly #what: string;
  #start = 0;
  #end = 0;
  #offset = 0;

  /** `size` is the longest run `need` can ask for, and the amount read at once. */
  constructor(feed: Feed, size: number, what: string) {
    this.#feed = feed;
    this.#buffer = Buffer.allocUnsafeSlow(size);
    this.#what = what;
  }

  /** Bytes passed so far. */
  get offset(): number {
    return this.#offset;
  }

  get #held(): number {
    return this.#end - this.#start;
  }

  /** The next `count` bytes, still unread; undefined at the end. Valid until the next call. */
  async peek(count: number): Promise<Buffer | undefined> {
    if (this.#held < count && !(await this.#fill(count))) return undefined;
    return this.#buffer.subarray(this.#start, this.#start + count);
  }

  /** The next `count` bytes (at most the window's size), or a named error. Valid until the next call. */
  async take(count: number): Promise<Buffer> {
    const bytes = await this.peek(count);
    if (bytes === undefined) throw this.#truncated();
    this.#advance(count);
    return bytes;
  }

  /** Some of the next bytes, at least one and at most `max`. Valid until the next call. */
  async some(max: number): Promise<Buffer> {
    if (this.#held === 0 && !(await this.#fill(1))) throw this.#truncated();
    const count = Math.min(max, this.#held);
    const bytes = this.#buffer.subarray(this.#start, this.#start + count);
    this.#advance(count);
    return bytes;
  }

  /** Passes over bytes, without reading them where the feed can. */
  async skip(count: number): Promise<void> {
    let left = count;
    if (left > this.#held && this.#feed.skip !== undefined) {
      left -= this.#held;
      this.#offset += this.#held + left;
      this.#start = this.#end;
      this.#feed.skip(left);
      return;
    }
    while (left > 0) left -= (await this.some(left)).length;
  }

  #advance(count: number): void {
    this.#start += count;
    this.#offset += count;
  }

  /** Holds at least `count` bytes afterwards; false when the feed ended before the first of them. */
  async #fill(count: number): Promise<boolean> {
    if (this.#start > 0) {
      this.#buffer.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    while (this.#end < count) {
      const got = await this.#feed.read(this.#buffer, this.#end);
      if (got === 0) {
        if (this.#end === 0) return false;
        throw this.#truncated();
      }
      this.#end += got;
    }
    return true;
  }

  #truncated(): ImageError {
    return new ImageError(
      "TAR_TRUNCATED",
      `${this.#what} ends unexpectedly at byte ${this.#offset + this.#held}`,
    );
  }
}
