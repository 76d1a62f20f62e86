import { createCipheriv, createDecipheriv } from "node:crypto";
import { CryptoError } from "../error.ts";

/** Modes of GB/T 17964 that Node has natively. */
export type Sm4Mode = "ecb" | "cbc" | "cfb" | "ofb" | "ctr";

/** Bytes of an SM4 key and of an SM4 block. */
export const SM4_BLOCK = 16;

/** Refuses a key that is not 16 bytes. */
export function checkKey(key: Uint8Array): void {
  if (key.byteLength !== SM4_BLOCK) {
    throw new CryptoError("SM4_KEY", `sm4 key: expected 16 bytes, have ${key.byteLength}`);
  }
}

function checkIv(mode: Sm4Mode, iv: Uint8Array): void {
  const length = mode === "ecb" ? 0 : SM4_BLOCK;
  if (iv.byteLength !== length) {
    throw new CryptoError("SM4_IV", `sm4-${mode} iv: expected ${length} bytes, have ${iv.byteLength}`);
  }
}

function checkWhole(mode: Sm4Mode, data: Uint8Array): void {
  if ((mode === "ecb" || mode === "cbc") && data.byteLength % SM4_BLOCK !== 0) {
    throw new CryptoError("SM4_LENGTH", `sm4-${mode}: ${data.byteLength} bytes are not whole blocks`);
  }
}

/** Encrypts; ECB and CBC pad by PKCS #7 unless `padding` is false, then whole blocks are demanded. */
export function sm4Encrypt(
  mode: Sm4Mode,
  key: Uint8Array,
  iv: Uint8Array,
  data: Uint8Array,
  padding = true,
): Uint8Array {
  checkKey(key);
  checkIv(mode, iv);
  if (!padding) checkWhole(mode, data);
  const cipher = createCipheriv(`sm4-${mode}`, key, mode === "ecb" ? null : iv);
  cipher.setAutoPadding(padding);
  return Buffer.concat([cipher.update(data), cipher.final()]);
}

/** Decrypts; wrong padding is `SM4_PADDING` (never show the difference to a stranger: use GCM or CCM). */
export function sm4Decrypt(
  mode: Sm4Mode,
  key: Uint8Array,
  iv: Uint8Array,
  data: Uint8Array,
  padding = true,
): Uint8Array {
  checkKey(key);
  checkIv(mode, iv);
  checkWhole(mode, data);
  const decipher = createDecipheriv(`sm4-${mode}`, key, mode === "ecb" ? null : iv);
  decipher.setAutoPadding(padding);
  try {
    return Buffer.concat([decipher.update(data), decipher.final()]);
  } catch {
    throw new CryptoError("SM4_PADDING", `sm4-${mode}: the padding is wrong`, "refused");
  }
}
