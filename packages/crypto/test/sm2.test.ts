import assert from "node:assert/strict";
import { createECDH, createHash, randomBytes } from "node:crypto";
import { test } from "node:test";
import { SecretBytes } from "@shelter/base";
import { DEFAULT_IDENTITY, sm2 } from "../src/index.ts";
import { Domain, pointBytes, SM2P256V1, toBytes, toNumber } from "../src/sm2/domain.ts";
import { nativeVerifier } from "../src/sm2/native.ts";
import { signNumberWith } from "../src/sm2/sign.ts";
import { verifyNumber } from "../src/sm2/verify.ts";

const { n, p } = SM2P256V1;
const domain = new Domain(SM2P256V1);
const message = Buffer.from("the message");

function pair(): { key: SecretBytes; publicKey: Uint8Array } {
  const key = new SecretBytes(sm2.generate());
  return { key, publicKey: sm2.publicKey(key) };
}

test("signs what it verifies, under the identity given and no other", () => {
  const { key, publicKey } = pair();
  for (const identity of [
    DEFAULT_IDENTITY,
    new Uint8Array(),
    Buffer.from("HYGON-SSD-PEK"),
    new Uint8Array(8191),
  ]) {
    for (const form of ["raw", "der"] as const) {
      const signature = sm2.sign(key, message, { identity, form });
      assert.equal(sm2.verify(publicKey, message, signature, { identity, form }), true);
      assert.equal(
        sm2.verify(publicKey, message, signature, { identity: Buffer.from("other"), form }),
        false,
      );
    }
  }
  assert.throws(() => sm2.sign(key, message, { identity: new Uint8Array(8192) }), { code: "SM2_IDENTITY" });
});

test("no bit of a signature, the message or the key may change", () => {
  const { key, publicKey } = pair();
  const signature = sm2.sign(key, message);
  const flip = (bytes: Uint8Array, bit: number): Uint8Array => {
    const out = Uint8Array.from(bytes);
    out[bit >> 3] = (out[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    return out;
  };
  for (let bit = 0; bit < 512; bit += 3)
    assert.equal(sm2.verify(publicKey, message, flip(signature, bit)), false);
  for (let bit = 0; bit < message.length * 8; bit++) {
    assert.equal(sm2.verify(publicKey, flip(message, bit), signature), false);
  }
  for (let bit = 0; bit < 520; bit += 13) {
    assert.throws(() => sm2.verify(flip(publicKey, bit), message, signature), { code: "SM2_POINT" });
  }
  assert.equal(sm2.verify(pair().publicKey, message, signature), false);
});

test("numbers out of range are no signature", () => {
  const { key, publicKey } = pair();
  const signature = sm2.sign(key, message);
  const [r, s] = [toNumber(signature.subarray(0, 32)), toNumber(signature.subarray(32))];
  const raw = (a: bigint, b: bigint): Uint8Array => Buffer.concat([toBytes(a), toBytes(b)]);
  assert.equal(sm2.verify(publicKey, message, raw(r, s)), true);
  // r + s = n makes t zero; the others are zero, the order and past it.
  for (const [a, b] of [
    [0n, s],
    [r, 0n],
    [0n, 0n],
    [n, s],
    [r, n],
    [n + 1n, s],
    [r, n - r],
    [2n ** 256n - 1n, s],
  ] as const) {
    assert.equal(sm2.verify(publicKey, message, raw(a, b)), false);
  }
});

test("the native verification gives the answers of the definition", () => {
  const native = nativeVerifier(domain);
  assert.ok(native, "this Node's OpenSSL lacks SM2 or explicit curve parameters");
  const random = (): bigint => 1n + (toNumber(randomBytes(32)) % (n - 1n));
  for (let i = 0; i < 24; i++) {
    const d = random();
    const e = i < 4 ? ([0n, 1n, n, 2n ** 256n - 1n][i] ?? 0n) : random();
    const publicKey = domain.point.BASE.multiply(d);
    const good = signNumberWith(domain, d, e, random());
    assert.ok(good);
    const cases = [
      good,
      { r: good.s, s: good.r },
      { r: good.r, s: domain.mod(-good.s) },
      { r: random(), s: random() },
      { r: good.r, s: good.s + n },
      { r: n - good.s, s: good.s },
    ];
    for (const numbers of cases) {
      const expected = verifyNumber(domain, publicKey, e, numbers);
      assert.equal(native.verify(domain, publicKey, e, numbers), expected);
      assert.equal(expected, numbers === good);
    }
    // r = e has no ECDSA form (x would be zero): left to the definition.
    assert.equal(native.verify(domain, publicKey, good.r, good), undefined);
    assert.equal(verifyNumber(domain, publicKey, good.r, good), false);
  }
});

test("a public key is 65 bytes of a point on the curve", () => {
  const { key, publicKey } = pair();
  const signature = sm2.sign(key, message);
  const ecdh = createECDH("prime256v1");
  const [x, y] = [publicKey.subarray(1, 33), publicKey.subarray(33)];
  const cases: readonly Uint8Array[] = [
    new Uint8Array(),
    new Uint8Array(1),
    new Uint8Array(65),
    Buffer.concat([Uint8Array.of(4), new Uint8Array(64)]),
    publicKey.subarray(0, 64),
    Buffer.concat([publicKey, Uint8Array.of(0)]),
    Buffer.concat([Uint8Array.of(6), x, y]),
    Buffer.concat([Uint8Array.of(2), x]),
    ecdh.generateKeys(),
    Buffer.concat([Uint8Array.of(4), toBytes(p), y]),
    Buffer.concat([Uint8Array.of(4), x, toBytes(2n ** 256n - 1n)]),
  ];
  for (const bytes of cases)
    assert.throws(() => sm2.verify(bytes, message, signature), { code: "SM2_POINT" });
  const negative = pointBytes(domain.readPoint(publicKey).negate());
  assert.equal(sm2.verify(negative, message, signature), false);
});

test("a private key is 32 bytes from 1 to n - 2", () => {
  for (const d of [0n, n - 1n, n, 2n ** 256n - 1n]) {
    assert.throws(() => sm2.publicKey(new SecretBytes(toBytes(d))), { code: "SM2_SCALAR" });
  }
  assert.throws(() => sm2.sign(new SecretBytes(new Uint8Array(31)), message), { code: "SM2_SCALAR" });
  for (const d of [1n, n - 2n]) {
    const key = new SecretBytes(toBytes(d));
    assert.equal(sm2.verify(sm2.publicKey(key), message, sm2.sign(key, message)), true);
  }
});

test("two signatures of one message share nothing", () => {
  const { key } = pair();
  const seen = new Set<string>();
  for (let i = 0; i < 16; i++) seen.add(Buffer.from(sm2.sign(key, message).subarray(0, 32)).toString("hex"));
  assert.equal(seen.size, 16);
});

const DER: readonly (readonly [string, string])[] = [
  ["nothing", ""],
  ["a tag alone", "30"],
  ["an empty sequence", "3000"],
  ["one number", "3003020101"],
  ["three numbers", "3009020101020101020101"],
  ["bytes behind", "300602010102010100"],
  ["a set", "3106020101020101"],
  ["a long form where a short one does", "308106020101020101"],
  ["an indefinite length", "30800201010201010000"],
  ["a leading zero", "300702020001020101"],
  ["a negative number", "3006020181020101"],
  ["an empty number", "30050200020101"],
  ["an octet string", "3006040101020101"],
  ["a length past the end", "3006020101020201"],
  ["a huge number", `3081${"84"}0281${"80"}01${"00".repeat(127)}020101`],
];

for (const [name, hex] of DER) {
  test(`a DER signature with ${name} is malformed`, () => {
    const { publicKey } = pair();
    assert.throws(() => sm2.verify(publicKey, message, Buffer.from(hex, "hex"), { form: "der" }), {
      code: "SM2_SIGNATURE",
      kind: "malformed",
    });
  });
}

test("a raw signature has 64 bytes, a digest 32", () => {
  const { key, publicKey } = pair();
  assert.throws(() => sm2.verify(publicKey, message, new Uint8Array(63)), { code: "SM2_SIGNATURE" });
  assert.throws(() => sm2.verifyDigest(publicKey, new Uint8Array(31), new Uint8Array(64)), {
    code: "SM2_SIGNATURE",
  });
  const digest = createHash("sm3").update("x").digest();
  assert.equal(sm2.verifyDigest(publicKey, digest, sm2.signDigest(key, digest)), true);
  assert.equal(sm2.verifyDigest(publicKey, digest, sm2.signDigest(key, digest, "der"), "der"), true);
});

test("decrypts what it encrypted, in both forms, and nothing altered", () => {
  const { key, publicKey } = pair();
  for (const form of ["raw", "der"] as const) {
    for (const length of [1, 31, 32, 33, 500]) {
      const plain = randomBytes(length);
      assert.deepEqual(Buffer.from(sm2.decrypt(key, sm2.encrypt(publicKey, plain, form), form)), plain);
    }
  }
  const sealed = sm2.encrypt(publicKey, message);
  for (let at = 65; at < sealed.length; at += 4) {
    const altered = Uint8Array.from(sealed);
    altered[at] = (altered[at] ?? 0) ^ 1;
    assert.throws(() => sm2.decrypt(key, altered), { code: "SM2_CIPHERTEXT", kind: "refused" });
  }
  const off = Uint8Array.from(sealed);
  off[40] = (off[40] ?? 0) ^ 1;
  assert.throws(() => sm2.decrypt(key, off), { code: "SM2_POINT" });
  assert.throws(() => sm2.decrypt(pair().key, sealed), { code: "SM2_CIPHERTEXT", kind: "refused" });
});

test("ciphertexts too short, messages empty or too long are refused", () => {
  const { key, publicKey } = pair();
  const sealed = sm2.encrypt(publicKey, message);
  for (const length of [0, 64, 65, 96, 97]) {
    assert.throws(() => sm2.decrypt(key, sealed.subarray(0, length)), { code: "SM2_CIPHERTEXT" });
  }
  assert.throws(() => sm2.encrypt(publicKey, new Uint8Array()), { code: "SM2_PLAINTEXT" });
  assert.throws(() => sm2.encrypt(publicKey, new Uint8Array(2 ** 20 + 1)), { code: "SM2_PLAINTEXT" });
  const der = sm2.encrypt(publicKey, message, "der");
  for (let length = 0; length < der.length; length++) {
    assert.throws(() => sm2.decrypt(key, der.subarray(0, length), "der"), { code: "SM2_CIPHERTEXT" });
  }
});
