import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { createCipheriv } from "node:crypto";
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { digestOf, SecretBytes } from "@shelter/base";
import { diskKeyFile, newDiskKey } from "../src/index.ts";
import { encryptFile } from "../src/root/encrypt.ts";
import { scratch } from "./support/scratch.ts";

/** AES-256-XTS as IEEE 1619-2007, 5.3 writes it down, over plain AES blocks: shares nothing with the code under test. */
function xts(key: Uint8Array, dataUnit: bigint, plain: Uint8Array): Buffer {
  const aes = (k: Uint8Array, block: Uint8Array): Buffer => {
    const cipher = createCipheriv("aes-256-ecb", k, null).setAutoPadding(false);
    return Buffer.concat([cipher.update(block), cipher.final()]);
  };
  const number = Buffer.alloc(16);
  number.writeBigUInt64LE(dataUnit);
  let tweak = aes(key.subarray(32), number);
  const out: Buffer[] = [];
  for (let at = 0; at < plain.length; at += 16) {
    const block = Buffer.from(plain.subarray(at, at + 16).map((b, i) => b ^ (tweak[i] ?? 0)));
    out.push(Buffer.from(aes(key.subarray(0, 32), block).map((b, i) => b ^ (tweak[i] ?? 0))));
    const doubled = Buffer.alloc(16);
    let carry = 0;
    for (let i = 0; i < 16; i++) {
      doubled[i] = (((tweak[i] ?? 0) << 1) | carry) & 0xff;
      carry = (tweak[i] ?? 0) >> 7;
    }
    if (carry === 1) doubled[0] = (doubled[0] ?? 0) ^ 0x87;
    tweak = doubled;
  }
  return Buffer.concat(out);
}

const KEY = Uint8Array.from({ length: 64 }, (_, i) => (i * 7 + 3) & 0xff);

test("the test's own XTS agrees with IEEE 1619-2007, vector 10", () => {
  const key = Buffer.from(
    "27182818284590452353602874713526624977572470936999595749669676273141592653589793238462643383279502884197169399375105820974944592",
    "hex",
  );
  const plain = Buffer.from(Array.from({ length: 512 }, (_, i) => i & 0xff));
  equal(
    xts(key, 0xffn, plain).subarray(0, 32).toString("hex"),
    "1c3b3a102f770386e4836c99e370cf9bea00803f5e482357a4ae12d414a3e63b",
  );
});

test("each 4096-byte sector is encrypted under its own number", async (t) => {
  const path = join(scratch(t), "root");
  const plain = Buffer.alloc(1030 * 4096); // more than is read at once
  for (let i = 0; i < plain.length; i += 997) plain[i] = i & 0xff;
  writeFileSync(path, plain);
  const digest = await encryptFile(path, new SecretBytes(KEY));
  const cipher = readFileSync(path);
  equal(digest, digestOf(cipher));
  equal(cipher.length, plain.length);
  for (const sector of [0, 1, 2, 1023, 1024, 1029]) {
    const range = [sector * 4096, (sector + 1) * 4096] as const;
    deepEqual(
      cipher.subarray(...range),
      xts(KEY, BigInt(sector), plain.subarray(...range)),
      `sector ${sector}`,
    );
  }
});

test("a key of another size is refused, and never shown", async (t) => {
  const path = join(scratch(t), "root");
  writeFileSync(path, Buffer.alloc(4096));
  await rejects(encryptFile(path, new SecretBytes(new Uint8Array(32))), { code: "KEY_MALFORMED" });
  equal(JSON.stringify({ key: newDiskKey() }), '{"key":"[secret]"}');
});

test("a key file is made once, for its owner only, and read after", (t) => {
  const path = join(scratch(t), "disk.key");
  const made = diskKeyFile(path);
  equal(statSync(path).mode & 0o777, 0o600);
  equal(statSync(path).size, 64);
  deepEqual(diskKeyFile(path).reveal(), made.reveal());
});

test("a key file that is short, or holds one half twice, is refused", (t) => {
  const path = join(scratch(t), "disk.key");
  writeFileSync(path, Buffer.alloc(63, 1));
  throws(() => diskKeyFile(path), { code: "KEY_MALFORMED", message: /has 63 bytes, a disk key has 64/ });
  writeFileSync(path, Buffer.alloc(64, 1));
  throws(() => diskKeyFile(path), { code: "KEY_MALFORMED", message: /same key twice/ });
  throws(() => diskKeyFile(join(path, "x")), { code: "KEY_MALFORMED", kind: "usage" });
});

test("two keys are never the same", () => {
  ok(Buffer.compare(newDiskKey().reveal(), newDiskKey().reveal()) !== 0);
});
