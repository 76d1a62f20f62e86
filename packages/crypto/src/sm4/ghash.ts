// GHASH (NIST SP 800-38D section 6.4) without tables: no memory address and no branch depends on the key or
// the data, and 32-bit integer multiplication is one machine instruction. Carry-less products come from
// ordinary ones on operands with three of each four bits clear, so that carries fall into the gaps (the
// method of BearSSL's ghash_ctmul32, Thomas Pornin).

const M0 = 0x11111111;
const M1 = 0x22222222;
const M2 = 0x44444444;
const M3 = 0x88888888 | 0;

/** Low 32 bits of the carry-less product. */
function product(x: number, y: number): number {
  const x0 = x & M0;
  const x1 = x & M1;
  const x2 = x & M2;
  const x3 = x & M3;
  const y0 = y & M0;
  const y1 = y & M1;
  const y2 = y & M2;
  const y3 = y & M3;
  const { imul } = Math;
  return (
    ((imul(x0, y0) ^ imul(x1, y3) ^ imul(x2, y2) ^ imul(x3, y1)) & M0) |
    ((imul(x0, y1) ^ imul(x1, y0) ^ imul(x2, y3) ^ imul(x3, y2)) & M1) |
    ((imul(x0, y2) ^ imul(x1, y1) ^ imul(x2, y0) ^ imul(x3, y3)) & M2) |
    ((imul(x0, y3) ^ imul(x1, y2) ^ imul(x2, y1) ^ imul(x3, y0)) & M3)
  );
}

/** Bits in reverse order. */
function reverse(value: number): number {
  let x = value;
  x = ((x & 0x55555555) << 1) | ((x >>> 1) & 0x55555555);
  x = ((x & 0x33333333) << 2) | ((x >>> 2) & 0x33333333);
  x = ((x & 0x0f0f0f0f) << 4) | ((x >>> 4) & 0x0f0f0f0f);
  x = ((x & 0x00ff00ff) << 8) | ((x >>> 8) & 0x00ff00ff);
  return (x << 16) | (x >>> 16);
}

/** The running hash under one key. Words count from the end of a block: word 0 is its last four bytes. */
export class Ghash {
  // Key words, their Karatsuba sums, and all of them bit-reversed (for the high halves of the products).
  readonly #h = new Int32Array(18);
  readonly #y = new Int32Array(4);

  /** `key` is the encryption of the zero block. */
  constructor(key: Uint8Array) {
    const view = new DataView(key.buffer, key.byteOffset, 16);
    const h = this.#h;
    for (let i = 0; i < 4; i++) {
      h[i] = view.getInt32(12 - 4 * i);
      h[9 + i] = reverse(h[i] ?? 0);
    }
    for (const at of [0, 9]) {
      const [a = 0, b = 0, c = 0, d = 0] = h.subarray(at, at + 4);
      h.set([a ^ b, c ^ d, a ^ c, b ^ d, a ^ b ^ c ^ d], at + 4);
    }
  }

  /** Takes data in, filled with zeros to a whole block. */
  update(data: Uint8Array): void {
    const whole = data.byteLength - (data.byteLength % 16);
    this.#blocks(new DataView(data.buffer, data.byteOffset, whole));
    if (whole !== data.byteLength) {
      const last = new Uint8Array(16);
      last.set(data.subarray(whole));
      this.#blocks(new DataView(last.buffer));
    }
  }

  #blocks(view: DataView): void {
    const [h0 = 0, h1 = 0, h2 = 0, h3 = 0, h4 = 0, h5 = 0, h6 = 0, h7 = 0, h8 = 0] = this.#h;
    const [g0 = 0, g1 = 0, g2 = 0, g3 = 0, g4 = 0, g5 = 0, g6 = 0, g7 = 0, g8 = 0] = this.#h.subarray(9);
    let [y0 = 0, y1 = 0, y2 = 0, y3 = 0] = this.#y;
    for (let at = 0; at < view.byteLength; at += 16) {
      y3 ^= view.getInt32(at);
      y2 ^= view.getInt32(at + 4);
      y1 ^= view.getInt32(at + 8);
      y0 ^= view.getInt32(at + 12);
      const r0 = reverse(y0);
      const r1 = reverse(y1);
      const r2 = reverse(y2);
      const r3 = reverse(y3);

      const c0 = product(y0, h0);
      const c1 = product(y1, h1);
      const c2 = product(y2, h2);
      const c3 = product(y3, h3);
      const c6 = product(y0 ^ y2, h6);
      const c7 = product(y1 ^ y3, h7);
      const c4 = product(y0 ^ y1, h4) ^ c0 ^ c1;
      const c5 = product(y2 ^ y3, h5) ^ c2 ^ c3;
      const c8 = product(y0 ^ y1 ^ y2 ^ y3, h8) ^ c6 ^ c7;

      const e0 = product(r0, g0);
      const e1 = product(r1, g1);
      const e2 = product(r2, g2);
      const e3 = product(r3, g3);
      const e6 = product(r0 ^ r2, g6);
      const e7 = product(r1 ^ r3, g7);
      const e4 = product(r0 ^ r1, g4) ^ e0 ^ e1;
      const e5 = product(r2 ^ r3, g5) ^ e2 ^ e3;
      const e8 = product(r0 ^ r1 ^ r2 ^ r3, g8) ^ e6 ^ e7;

      // The 255-bit product, in 32-bit words d0 to d7.
      const d0 = c0;
      const d1 = c4 ^ (reverse(e0) >>> 1);
      const d2 = c1 ^ c0 ^ c2 ^ c6 ^ (reverse(e4) >>> 1);
      const d3 = c4 ^ c5 ^ c8 ^ (reverse(e1 ^ e0 ^ e2 ^ e6) >>> 1);
      const d4 = c2 ^ c1 ^ c3 ^ c7 ^ (reverse(e4 ^ e5 ^ e8) >>> 1);
      const d5 = c5 ^ (reverse(e2 ^ e1 ^ e3 ^ e7) >>> 1);
      const d6 = c3 ^ (reverse(e5) >>> 1);
      const d7 = reverse(e3) >>> 1;

      // GCM's bits are reversed within a block: one shift aligns the product, then it is reduced by
      // x^128 + x^7 + x^2 + x + 1.
      const z0 = d0 << 1;
      const z1 = (d1 << 1) | (d0 >>> 31);
      const z2 = (d2 << 1) | (d1 >>> 31);
      let z3 = (d3 << 1) | (d2 >>> 31);
      let z4 = (d4 << 1) | (d3 >>> 31);
      let z5 = (d5 << 1) | (d4 >>> 31);
      let z6 = (d6 << 1) | (d5 >>> 31);
      let z7 = (d7 << 1) | (d6 >>> 31);
      z4 ^= z0 ^ (z0 >>> 1) ^ (z0 >>> 2) ^ (z0 >>> 7);
      z3 ^= (z0 << 31) ^ (z0 << 30) ^ (z0 << 25);
      z5 ^= z1 ^ (z1 >>> 1) ^ (z1 >>> 2) ^ (z1 >>> 7);
      z4 ^= (z1 << 31) ^ (z1 << 30) ^ (z1 << 25);
      z6 ^= z2 ^ (z2 >>> 1) ^ (z2 >>> 2) ^ (z2 >>> 7);
      z5 ^= (z2 << 31) ^ (z2 << 30) ^ (z2 << 25);
      z7 ^= z3 ^ (z3 >>> 1) ^ (z3 >>> 2) ^ (z3 >>> 7);
      z6 ^= (z3 << 31) ^ (z3 << 30) ^ (z3 << 25);
      y0 = z4;
      y1 = z5;
      y2 = z6;
      y3 = z7;
    }
    this.#y.set([y0, y1, y2, y3]);
  }

  /** The hash of everything taken in. */
  digest(): Uint8Array {
    const out = new Uint8Array(16);
    const view = new DataView(out.buffer);
    for (let i = 0; i < 4; i++) view.setInt32(12 - 4 * i, this.#y[i] ?? 0);
    return out;
  }
}
