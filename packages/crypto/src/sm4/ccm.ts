import { createCipheriv, timingSafeEqual } from "node:crypto";
import { CryptoError } from "../error.ts";
import { checkKey, SM4_BLOCK } from "./block.ts";
import type { Sealed } from "./gcm.ts";

/** The lengths of SP 800-38C. A short tag is a choice of the caller, who names it; by default it is 16 bytes. */
const TAG_LENGTHS: readonly number[] = [4, 6, 8, 10, 12, 14, 16];
const MAX_LENGTH = 2 ** 31;
/** Longer associated data has another length prefix (SP 800-38C A.2.2), and no use here. */
const MAX_AAD = 2 ** 32 - 1;

function check(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  data: Uint8Array,
  tagLength: number,
): void {
  checkKey(key);
  if (nonce.byteLength < 7 || nonce.byteLength > 13) {
    throw new CryptoError("SM4_IV", `sm4-ccm nonce: expected 7 to 13 bytes, have ${nonce.byteLength}`);
  }
  if (!TAG_LENGTHS.includes(tagLength)) {
    throw new CryptoError(
      "SM4_TAG_LENGTH",
      `sm4-ccm tag: expected an even number from 4 to 16 bytes, have ${tagLength}`,
    );
  }
  // The counter has 15 - nonce bytes; a message its length field cannot hold is refused, not wrapped.
  const limit = Math.min(MAX_LENGTH, 2 ** (8 * (15 - nonce.byteLength)) - 1);
  if (data.byteLength > limit)
    throw new CryptoError("SM4_LENGTH", `sm4-ccm: ${data.byteLength} bytes, at most ${limit}`);
  if (aad.byteLength > MAX_AAD)
    throw new CryptoError("SM4_LENGTH", `sm4-ccm: ${aad.byteLength} bytes of associated data`);
}

function padding(length: number): Uint8Array {
  return new Uint8Array((SM4_BLOCK - (length % SM4_BLOCK)) % SM4_BLOCK);
}

/** The whole CBC-MAC (SP 800-38C section 6.1): what native CBC leaves in its last block. */
function mac(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  message: Uint8Array,
  tagLength: number,
): Uint8Array {
  const first = new Uint8Array(SM4_BLOCK);
  const lengthBytes = 15 - nonce.byteLength;
  first[0] = (aad.byteLength > 0 ? 0x40 : 0) | (((tagLength - 2) / 2) << 3) | (lengthBytes - 1);
  first.set(nonce, 1);
  for (
    let i = 0, rest = message.byteLength;
    i < lengthBytes && rest > 0;
    i++, rest = Math.floor(rest / 256)
  ) {
    first[15 - i] = rest % 256;
  }
  const cbc = createCipheriv("sm4-cbc", key, new Uint8Array(SM4_BLOCK));
  let last = cbc.update(first);
  const feed = (part: Uint8Array): void => {
    const out = cbc.update(part);
    if (out.byteLength >= SM4_BLOCK) last = out.subarray(out.byteLength - SM4_BLOCK);
  };
  if (aad.byteLength > 0) {
    const prefix =
      aad.byteLength < 0xff00
        ? Uint8Array.of(aad.byteLength >> 8, aad.byteLength & 255)
        : Uint8Array.of(
            0xff,
            0xfe,
            aad.byteLength >>> 24,
            (aad.byteLength >>> 16) & 255,
            (aad.byteLength >>> 8) & 255,
            aad.byteLength & 255,
          );
    feed(prefix);
    feed(aad);
    feed(padding(prefix.byteLength + aad.byteLength));
  }
  feed(message);
  feed(padding(message.byteLength));
  return last;
}

/** Counter mode: block 0 masks the tag, the message follows. */
function stream(
  key: Uint8Array,
  nonce: Uint8Array,
): { mask: Uint8Array; crypt: (data: Uint8Array) => Uint8Array } {
  const counter = new Uint8Array(SM4_BLOCK);
  counter[0] = 14 - nonce.byteLength;
  counter.set(nonce, 1);
  const ctr = createCipheriv("sm4-ctr", key, counter);
  const mask = ctr.update(new Uint8Array(SM4_BLOCK));
  return { mask, crypt: (data) => ctr.update(data) };
}

function maskedTag(tag: Uint8Array, mask: Uint8Array, length: number): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (tag[i] ?? 0) ^ (mask[i] ?? 0));
}

/** Encrypts with SM4-CCM (RFC 8998, NIST SP 800-38C). The nonce must never repeat under one key. */
export function sm4CcmSeal(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  message: Uint8Array,
  tagLength = 16,
): Sealed {
  check(key, nonce, aad, message, tagLength);
  const { mask, crypt } = stream(key, nonce);
  const tag = maskedTag(mac(key, nonce, aad, message, tagLength), mask, tagLength);
  return { ciphertext: crypt(message), tag };
}

/** Decrypts SM4-CCM; the message is given out only when the tag, of the length agreed on, matches. */
export function sm4CcmOpen(
  key: Uint8Array,
  nonce: Uint8Array,
  aad: Uint8Array,
  ciphertext: Uint8Array,
  tag: Uint8Array,
  tagLength = 16,
): Uint8Array {
  check(key, nonce, aad, ciphertext, tagLength);
  if (tag.byteLength !== tagLength) {
    throw new CryptoError(
      "SM4_TAG_LENGTH",
      `sm4-ccm tag: expected ${tagLength} bytes, have ${tag.byteLength}`,
    );
  }
  const { mask, crypt } = stream(key, nonce);
  const message = crypt(ciphertext);
  const expected = maskedTag(mac(key, nonce, aad, message, tagLength), mask, tagLength);
  if (!timingSafeEqual(expected, tag)) {
    message.fill(0);
    throw new CryptoError("SM4_TAG", "sm4-ccm: the tag does not match", "refused");
  }
  return message;
}
