import assert from "node:assert/strict";
import { createCipheriv, randomBytes } from "node:crypto";
import { test } from "node:test";
import { sm4CcmOpen, sm4CcmSeal, sm4Decrypt, sm4Encrypt, sm4GcmOpen, sm4GcmSeal } from "../src/index.ts";
import { Ghash } from "../src/sm4/ghash.ts";

const KEY = Buffer.alloc(16, 7);
const IV = Buffer.alloc(12, 9);
const NONE = new Uint8Array();

/** GHASH as SP 800-38D writes it: bit by bit in big integers. The oracle for the fast one. */
function ghashByDefinition(key: Uint8Array, data: Uint8Array): Uint8Array {
  const number = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString("hex")}`);
  const h = number(key);
  const R = 0xe1n << 120n;
  let y = 0n;
  for (let at = 0; at < data.length; at += 16) {
    const block = new Uint8Array(16);
    block.set(data.subarray(at, at + 16));
    y ^= number(block);
    let z = 0n;
    let v = h;
    for (let bit = 127n; bit >= 0n; bit--) {
      if ((y >> bit) & 1n) z ^= v;
      v = v & 1n ? (v >> 1n) ^ R : v >> 1n;
    }
    y = z;
  }
  return Buffer.from(y.toString(16).padStart(32, "0"), "hex");
}

test("GHASH gives the values of its definition", () => {
  for (const key of [
    Buffer.alloc(16),
    Buffer.alloc(16, 0xff),
    Buffer.alloc(16, 0x80),
    ...Array.from({ length: 12 }, () => randomBytes(16)),
  ]) {
    for (const length of [0, 1, 15, 16, 17, 160, 333]) {
      const data = randomBytes(length);
      const hash = new Ghash(key);
      hash.update(data);
      assert.deepEqual(Buffer.from(hash.digest()), Buffer.from(ghashByDefinition(key, data)));
    }
  }
});

test("GHASH is the one inside native AES-GCM", () => {
  for (let i = 0; i < 8; i++) {
    const key = randomBytes(16);
    const aad = randomBytes(16 * i);
    const gcm = createCipheriv("aes-128-gcm", key, IV);
    gcm.setAAD(aad);
    gcm.final();
    const ecb = (block: Uint8Array): Buffer => createCipheriv("aes-128-ecb", key, null).update(block);
    const hash = new Ghash(ecb(new Uint8Array(16)));
    const lengths = Buffer.alloc(16);
    lengths.writeBigUInt64BE(BigInt(aad.length) * 8n);
    hash.update(aad);
    hash.update(lengths);
    const mask = ecb(Buffer.concat([IV, Buffer.from([0, 0, 0, 1])]));
    const tag = hash.digest().map((b, at) => b ^ (mask[at] ?? 0));
    assert.deepEqual(Buffer.from(tag), gcm.getAuthTag());
  }
});

for (const [mode, seal, open] of [
  ["gcm", sm4GcmSeal, sm4GcmOpen],
  ["ccm", sm4CcmSeal, sm4CcmOpen],
] as const) {
  test(`${mode}: opens what it sealed, and nothing altered`, () => {
    for (const length of [0, 1, 16, 1000]) {
      const message = randomBytes(length);
      const aad = randomBytes(length % 40);
      const { ciphertext, tag } = seal(KEY, IV, aad, message);
      assert.deepEqual(Buffer.from(open(KEY, IV, aad, ciphertext, tag)), message);
      const wrong = (change: () => Uint8Array): void => {
        assert.throws(change, { code: "SM4_TAG", kind: "refused" });
      };
      const flip = (bytes: Uint8Array): Uint8Array =>
        bytes.map((b, i) => (i === bytes.length - 1 ? b ^ 1 : b));
      if (length > 0) wrong(() => open(KEY, IV, aad, flip(ciphertext), tag));
      if (aad.length > 0) wrong(() => open(KEY, IV, flip(aad), ciphertext, tag));
      wrong(() => open(KEY, flip(IV), aad, ciphertext, tag));
      wrong(() => open(flip(KEY), IV, aad, ciphertext, tag));
      for (let at = 0; at < 16; at++) {
        wrong(() =>
          open(
            KEY,
            IV,
            aad,
            ciphertext,
            tag.map((b, i) => (i === at ? b ^ 0x10 : b)),
          ),
        );
      }
    }
  });

  test(`${mode}: keys, nonces and tags of other lengths are refused`, () => {
    const { ciphertext, tag } = seal(KEY, IV, NONE, Buffer.from("x"));
    for (const length of [0, 15, 17, 32]) {
      assert.throws(() => seal(Buffer.alloc(length), IV, NONE, NONE), { code: "SM4_KEY" });
    }
    for (const length of [0, 4, 12, 15]) {
      assert.throws(() => open(KEY, IV, NONE, ciphertext, tag.subarray(0, length)), {
        code: "SM4_TAG_LENGTH",
      });
    }
    assert.throws(() => open(KEY, IV, NONE, ciphertext, Buffer.concat([tag, Buffer.of(0)])), {
      code: "SM4_TAG_LENGTH",
    });
    assert.throws(() => seal(KEY, NONE, NONE, NONE), { code: "SM4_IV" });
  });
}

test("ccm: a message longer than its length field is refused, a tag of odd length too", () => {
  const nonce = Buffer.alloc(13, 1);
  assert.doesNotThrow(() => sm4CcmSeal(KEY, nonce, NONE, new Uint8Array(65535)));
  assert.throws(() => sm4CcmSeal(KEY, nonce, NONE, new Uint8Array(65536)), { code: "SM4_LENGTH" });
  for (const tagLength of [0, 2, 5, 7, 18]) {
    assert.throws(() => sm4CcmSeal(KEY, nonce, NONE, NONE, tagLength), { code: "SM4_TAG_LENGTH" });
  }
  for (const length of [6, 14]) {
    assert.throws(() => sm4CcmSeal(KEY, new Uint8Array(length), NONE, NONE), { code: "SM4_IV" });
  }
});

test("ccm: associated data of 65280 bytes and more has the longer prefix", () => {
  for (const length of [0xfeff, 0xff00, 0x10001]) {
    const aad = randomBytes(length);
    const { ciphertext, tag } = sm4CcmSeal(KEY, IV, aad, Buffer.from("x"));
    assert.equal(Buffer.from(sm4CcmOpen(KEY, IV, aad, ciphertext, tag)).toString(), "x");
    assert.throws(() => sm4CcmOpen(KEY, IV, aad.subarray(1), ciphertext, tag), { code: "SM4_TAG" });
  }
});

test("blocks: lengths and padding are checked, by name", () => {
  const iv = Buffer.alloc(16);
  assert.throws(() => sm4Encrypt("cbc", KEY, iv, Buffer.alloc(15), false), { code: "SM4_LENGTH" });
  assert.throws(() => sm4Decrypt("cbc", KEY, iv, Buffer.alloc(15)), { code: "SM4_LENGTH" });
  assert.throws(() => sm4Decrypt("cbc", KEY, iv, NONE), { code: "SM4_PADDING" });
  assert.throws(() => sm4Encrypt("cbc", KEY, IV, NONE), { code: "SM4_IV" });
  assert.throws(() => sm4Encrypt("ecb", KEY, iv, NONE), { code: "SM4_IV" });
  assert.throws(() => sm4Encrypt("ctr", Buffer.alloc(32), iv, NONE), { code: "SM4_KEY" });
  const bad = sm4Encrypt("cbc", KEY, iv, Buffer.alloc(16, 0x11), false);
  assert.throws(() => sm4Decrypt("cbc", KEY, iv, bad), { code: "SM4_PADDING", kind: "refused" });
});
