import assert from "node:assert/strict";
import { test } from "node:test";
import { ByteReader, fromBase64, fromHex } from "@shelter/base";

test("a reader returns fields in both byte orders and refuses to pass its end", () => {
  const reader = new ByteReader(fromHex("0102030405060708"), "header");
  assert.equal(reader.u16le(), 0x0201);
  assert.equal(reader.u16be(), 0x0304);
  assert.deepEqual([...reader.take(2)], [5, 6]);
  assert.throws(() => reader.u32le(), {
    code: "BYTES_TRUNCATED",
    message: "header: need 4 bytes at offset 6, have 2",
  });
  assert.throws(() => reader.end(), { code: "BYTES_TRAILING", message: "header: 2 bytes behind its end" });
});

test("a reader refuses lengths that are negative, fractional or not safe", () => {
  for (const length of [-1, 1.5, Number.NaN, 2 ** 60]) {
    assert.throws(() => new ByteReader(new Uint8Array(4), "x").take(length), { code: "BYTES_RANGE" });
  }
});

test("a sub-reader cannot see past its own part", () => {
  const sub = new ByteReader(fromHex("aabbccdd"), "outer").sub(2, "inner");
  sub.skip(2);
  assert.throws(() => sub.u8(), { message: "inner: need 1 bytes at offset 2, have 0" });
});

test("base64 is taken in its canonical form only", () => {
  assert.deepEqual([...fromBase64("AQI=")], [1, 2]);
  assert.deepEqual([...fromBase64("AQI")], [1, 2]);
  assert.deepEqual([...fromBase64("-_8", "base64url")], [0xfb, 0xff]);
  for (const bad of ["AQJ=", "A", "AQI=\n", "A-I="]) {
    assert.throws(() => fromBase64(bad), { code: "BYTES_RANGE" }, bad);
  }
});
