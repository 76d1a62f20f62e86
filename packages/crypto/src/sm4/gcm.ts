import { createCipheriv, timingSafeEqual } from "node:crypto";
import { CryptoError } from "../error.ts";
import { checkKey, SM4_BLOCK } from "./block.ts";
import { Ghash } from "./ghash.ts";

/** What an authenticated encryption gives: as long as the message, and the tag over all of it. */
export interface Sealed {
  readonly ciphertext: Uint8Array;
  readonly tag: Uint8Array;
}

/** RFC 8998 section 2: the tag is 16 bytes. */
const TAG_LENGTH = 16;
/** SP 800-38D allows 2^39 - 256 bits; what this package keeps in memory at once is far below. */
const MAX_LENGTH = 2 ** 31;

function lengths(aad: number, data: number): Uint8Array {
  const block = new DataView(new ArrayBuffer(SM4_BLOCK));
  block.setBigUint64(0, BigInt(aad) * 8n);
  block.setBigUint64(8, BigInt(data) * 8n);
  return new Uint8Array(block.buffer);
}

/** SM4 in Galois/counter mode (RFC 8998, NIST SP 800-38D) under one key: SM4 natively, GHASH here. */
class Gcm {
  readonly #key: Uint8Array;
  readonly #hashKey: Uint8Array;
  readonly #firstCounter: Uint8Array;

  constructor(key: Uint8Array, iv: Uint8Array) {
    checkKey(key);
    if (iv.byteLength === 0) throw new CryptoError("SM4_IV", "sm4-gcm iv: expected at least 1 byte, have 0");
    this.#key = key;
    this.#hashKey = createCipheriv("sm4-ecb", key, null).update(new Uint8Array(SM4_BLOCK));
    if (iv.byteLength === 12) {
      this.#firstCounter = new Uint8Array(SM4_BLOCK);
      this.#firstCounter.set(iv);
      this.#firstCounter[15] = 1;
    } else {
      const hash = new Ghash(this.#hashKey);
      hash.update(iv);
      hash.update(lengths(0, iv.byteLength));
      this.#firstCounter = hash.digest();
    }
  }

  /** Counter mode from the block behind the first. The counter is 32 bits here and 128 in OpenSSL, so it is cut where it wraps. */
  crypt(data: Uint8Array): Uint8Array {
    if (data.byteLength > MAX_LENGTH) {
      throw new CryptoError("SM4_LENGTH", `sm4-gcm: ${data.byteLength} bytes, at most ${MAX_LENGTH}`);
    }
    const counter = new Uint8Array(this.#firstCounter);
    const view = new DataView(counter.buffer);
    const start = (view.getUint32(12) + 1) >>> 0;
    view.setUint32(12, start);
    const untilWrap = (2 ** 32 - start) * SM4_BLOCK;
    const head = createCipheriv("sm4-ctr", this.#key, counter).update(data.subarray(0, untilWrap));
    if (data.byteLength <= untilWrap) return head;
    view.setUint32(12, 0);
    return Buffer.concat([
      head,
      createCipheriv("sm4-ctr", this.#key, counter).update(data.subarray(untilWrap)),
    ]);
  }

  tag(aad: Uint8Array, ciphertext: Uint8Array): Uint8Array {
    const hash = new Ghash(this.#hashKey);
    hash.update(aad);
    hash.update(ciphertext);
    hash.update(lengths(aad.byteLength, ciphertext.byteLength));
    return createCipheriv("sm4-ctr", this.#key, this.#firstCounter).update(hash.digest());
  }
}

/** Encrypts with SM4-GCM. The IV must never repeat under one key; 12 bytes is the form to use. */
export function sm4GcmSeal(key: Uint8Array, iv: Uint8Array, aad: Uint8Array, message: Uint8Array): Sealed {
  const gcm = new Gcm(key, iv);
  const ciphertext = gcm.crypt(message);
  return { ciphertext, tag: gcm.tag(aad, ciphertext) };
}

/** Decrypts SM4-GCM; nothing is decrypted unless the 16-byte tag matches. */
export function sm4GcmOpen(
  key: Uint8Array,
  iv: Uint8Array,
  aad: Uint8Array,
  ciphertext: Uint8Array,
  tag: Uint8Array,
): Uint8Array {
  const gcm = new Gcm(key, iv);
  if (tag.byteLength !== TAG_LENGTH) {
    throw new CryptoError(
      "SM4_TAG_LENGTH",
      `sm4-gcm tag: expected ${TAG_LENGTH} bytes, have ${tag.byteLength}`,
    );
  }
  if (!timingSafeEqual(gcm.tag(aad, ciphertext), tag)) {
    throw new CryptoError("SM4_TAG", "sm4-gcm: the tag does not match", "refused");
  }
  return gcm.crypt(ciphertext);
}
