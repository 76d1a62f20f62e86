import { isIPv6 } from "node:net";

/** A token bucket: `burst` at once, then `perSecond`. */
export interface Rate {
  readonly burst: number;
  readonly perSecond: number;
}

const MAX_ADDRESSES = 10_000; // a bucket that is full again is forgotten first

/** Buckets by address, in memory: it protects this process, so another replica need not know. */
export class RateLimiter {
  readonly #rate: Rate;
  readonly #buckets = new Map<string, { level: number; at: number }>();

  constructor(rate: Rate) {
    this.#rate = rate;
  }

  /** Takes one token; false when there is none. */
  take(from: string, now: number): boolean {
    const address = addressKey(from);
    const level = this.#level(address, now);
    const ok = level >= 1;
    // Re-inserted, so that the map's order is by last use.
    this.#buckets.delete(address);
    this.#buckets.set(address, { level: ok ? level - 1 : level, at: now });
    if (this.#buckets.size > MAX_ADDRESSES) {
      const oldest = this.#buckets.keys().next().value;
      if (oldest !== undefined) this.#buckets.delete(oldest);
    }
    return ok;
  }

  /** Whether a token could be taken, without taking it. */
  has(from: string, now: number): boolean {
    return this.#level(addressKey(from), now) >= 1;
  }

  #level(address: string, now: number): number {
    const bucket = this.#buckets.get(address);
    if (!bucket) return this.#rate.burst;
    const gained = (Math.max(0, now - bucket.at) / 1000) * this.#rate.perSecond;
    return Math.min(this.#rate.burst, bucket.level + gained);
  }
}

/** Who is behind an address: an IPv6 network of 64 bits belongs to one, an IPv4 address in IPv6 is itself. */
export function addressKey(address: string): string {
  const plain = address.replace(/^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i, "").replace(/%.*$/, "");
  if (!isIPv6(plain) || plain === "::1") return plain;
  const [before = "", after] = plain.split("::");
  const head = before === "" ? [] : before.split(":");
  const tail = after === undefined || after === "" ? [] : after.split(":");
  const groups =
    after === undefined
      ? head
      : [...head, ...Array(Math.max(0, 8 - head.length - tail.length)).fill("0"), ...tail];
  return `${groups.slice(0, 4).join(":")}::/64`;
}
