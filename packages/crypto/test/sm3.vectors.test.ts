import assert from "node:assert/strict";
import { test } from "node:test";
import { hmacSm3, sm3 } from "../src/index.ts";
import { hex, jsonVectors, records, skip, vectors } from "./vectors.ts";

const shown = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("agrees with Botan's SM3 vectors", { skip }, () => {
  const all = records(vectors("botan-sm3.vec")).filter((r) => r.has("Out"));
  assert.equal(all.length, (vectors("botan-sm3.vec").match(/^Out = /gm) ?? []).length);
  for (const r of all) assert.equal(shown(sm3(hex(r.get("In") ?? ""))), r.get("Out")?.toLowerCase());
});

test("agrees with OpenSSL's SM3 test file", { skip }, () => {
  const all = records(vectors("openssl-evpmd_sm3.txt")).filter((r) => r.has("Output"));
  // Two records are SHA3-256 and SHA-512, there to test how digests are named.
  const others = all.filter((r) => r.get("Digest")?.toLowerCase() !== "sm3");
  assert.equal(others.length, 2);
  assert.ok(all.length >= 8);
  for (const r of all.filter((r) => !others.includes(r)))
    assert.equal(shown(sm3(hex(r.get("Input") ?? ""))), r.get("Output")?.toLowerCase());
});

test("agrees with OpenSSL on 31 digests and MACs", { skip }, () => {
  const { vectors: all } = jsonVectors<{
    vectors: readonly { msg: string; sm3: string; hmacKey?: string; hmacSm3?: string }[];
  }>("sm3-openssl-a.json");
  assert.equal(all.length, 31);
  for (const v of all) {
    assert.equal(shown(sm3(hex(v.msg))), v.sm3);
    const half = Math.floor(v.msg.length / 4) * 2;
    assert.equal(shown(sm3(hex(v.msg.slice(0, half)), hex(v.msg.slice(half)))), v.sm3);
    if (v.hmacKey !== undefined) assert.equal(shown(hmacSm3(hex(v.hmacKey), hex(v.msg))), v.hmacSm3);
  }
});

test("agrees with the HMAC-SM3 values of GM/T 0042 in OpenSSL's test file", { skip }, () => {
  const all = records(vectors("openssl-evpmac_sm3.txt")).filter((r) => r.has("MAC"));
  assert.equal(all.length, 4);
  const bytes = (text: string): Uint8Array =>
    text.startsWith('"') ? Buffer.from(text.slice(1, -1)) : hex(text);
  for (const r of all) {
    const mac = hmacSm3(bytes(r.get("Key") ?? ""), bytes(r.get("Input") ?? ""));
    assert.equal(shown(mac), r.get("Output"));
  }
});

test("agrees with Wycheproof's 174 HMAC-SM3 cases", { skip }, () => {
  const { numberOfTests, testGroups } = jsonVectors<{
    numberOfTests: number;
    testGroups: readonly {
      tagSize: number;
      tests: readonly { key: string; msg: string; tag: string; result: string; comment: string }[];
    }[];
  }>("wycheproof-hmac_sm3_test.json");
  let seen = 0;
  for (const group of testGroups) {
    for (const t of group.tests) {
      const mac = hmacSm3(hex(t.key), hex(t.msg)).subarray(0, group.tagSize / 8);
      assert.equal(shown(mac) === t.tag, t.result === "valid", t.comment);
      seen++;
    }
  }
  assert.equal(seen, numberOfTests);
});
