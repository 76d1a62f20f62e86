import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Sealed,
  type Sm4Mode,
  sm4CcmOpen,
  sm4CcmSeal,
  sm4Decrypt,
  sm4Encrypt,
  sm4GcmOpen,
  sm4GcmSeal,
} from "../src/index.ts";
import { hex, jsonVectors, records, skip, vectors } from "./vectors.ts";

const shown = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const EMPTY = new Uint8Array();

test("agrees with Botan's SM4 blocks, a million iterations included", { skip }, () => {
  const all = records(vectors("botan-sm4.vec")).filter((r) => r.has("Out"));
  assert.ok(all.length >= 4);
  for (const r of all) {
    const key = hex(r.get("Key") ?? "");
    let block = hex(r.get("In") ?? "");
    const out = (r.get("Out") ?? "").toLowerCase();
    const iterations = Number(r.get("Iterations") ?? 1);
    if (iterations === 1) block = sm4Encrypt("ecb", key, EMPTY, block, false);
    // CBC of zeros is the iterated block cipher, so a million rounds are one call.
    else block = sm4Encrypt("cbc", key, block, new Uint8Array(16 * iterations), false).subarray(-16);
    assert.equal(shown(block), out);
    if (iterations === 1) {
      assert.equal(shown(sm4Decrypt("ecb", key, EMPTY, block, false)), r.get("In")?.toLowerCase());
    }
  }
});

test("agrees with OpenSSL's SM4 test file in five modes", { skip }, () => {
  const all = records(vectors("openssl-evpciph_sm4.txt")).filter((r) => r.has("Cipher"));
  assert.deepEqual(
    all.map((r) => r.get("Cipher")),
    ["SM4-ECB", "SM4-CBC", "SM4-OFB", "SM4-CFB", "SM4-CTR"],
  );
  for (const r of all) {
    const mode = (r.get("Cipher") ?? "").slice(4).toLowerCase() as Sm4Mode;
    const [key, iv, plain, cipher] = ["Key", "IV", "Plaintext", "Ciphertext"].map((n) => hex(r.get(n) ?? ""));
    assert.ok(key && iv && plain && cipher);
    assert.equal(shown(sm4Encrypt(mode, key, iv, plain, false)), shown(cipher));
    assert.equal(shown(sm4Decrypt(mode, key, iv, cipher, false)), shown(plain));
  }
});

test("agrees with OpenSSL on 30 messages", { skip }, () => {
  const { vectors: all } = jsonVectors<{
    vectors: readonly {
      mode: Sm4Mode;
      padding: string;
      key: string;
      iv: string;
      plain: string;
      cipher: string;
    }[];
  }>("sm4-openssl-a.json");
  assert.equal(all.length, 30);
  for (const v of all) {
    const padding = v.padding === "pkcs7";
    assert.equal(shown(sm4Encrypt(v.mode, hex(v.key), hex(v.iv), hex(v.plain), padding)), v.cipher);
    assert.equal(shown(sm4Decrypt(v.mode, hex(v.key), hex(v.iv), hex(v.cipher), padding)), v.plain);
  }
});

interface Aead {
  readonly mode: "gcm" | "ccm";
  readonly key: string;
  readonly iv: string;
  readonly aad: string;
  readonly plain: string;
  readonly cipher: string;
  readonly tag: string;
}

function agrees(v: Aead): void {
  const [key, iv, aad, plain, cipher, tag] = [v.key, v.iv, v.aad, v.plain, v.cipher, v.tag].map(hex);
  assert.ok(key && iv && aad && plain && cipher && tag);
  const sealed: Sealed = v.mode === "gcm" ? sm4GcmSeal(key, iv, aad, plain) : sm4CcmSeal(key, iv, aad, plain);
  assert.equal(shown(sealed.ciphertext), v.cipher);
  assert.equal(shown(sealed.tag), v.tag);
  const open = v.mode === "gcm" ? sm4GcmOpen : sm4CcmOpen;
  assert.equal(shown(open(key, iv, aad, cipher, tag)), v.plain);
  const altered = Buffer.from(tag);
  altered[0] = (altered[0] ?? 0) ^ 0x80;
  assert.throws(() => open(key, iv, aad, cipher, altered), { code: "SM4_TAG", kind: "refused" });
}

test("agrees with RFC 8998 appendix A", { skip }, () => {
  const { vectors: all } = jsonVectors<{ vectors: readonly Aead[] }>("rfc8998-sm4-aead.json");
  assert.deepEqual(
    all.map((v) => v.mode),
    ["gcm", "ccm"],
  );
  for (const v of all) agrees(v);
});

test("agrees with libgcrypt on 20 messages", { skip }, () => {
  const { vectors: all } = jsonVectors<{ vectors: readonly Aead[] }>("sm4-aead-libgcrypt-a.json");
  assert.equal(all.length, 20);
  for (const v of all) agrees(v);
});

interface Wycheproof {
  readonly numberOfTests: number;
  readonly testGroups: readonly {
    readonly tagSize: number;
    readonly tests: readonly {
      readonly tcId: number;
      readonly comment: string;
      readonly key: string;
      readonly iv: string;
      readonly aad: string;
      readonly msg: string;
      readonly ct: string;
      readonly tag: string;
      readonly result: string;
    }[];
  }[];
}

for (const mode of ["gcm", "ccm"] as const) {
  test(`agrees with every Wycheproof case of SM4-${mode.toUpperCase()}`, { skip }, () => {
    const { numberOfTests, testGroups } = jsonVectors<Wycheproof>(`wycheproof-sm4_${mode}_test.json`);
    let seen = 0;
    for (const { tagSize, tests } of testGroups) {
      for (const t of tests) {
        seen++;
        const [key, iv, aad, msg, ct, tag] = [t.key, t.iv, t.aad, t.msg, t.ct, t.tag].map(hex);
        assert.ok(key && iv && aad && msg && ct && tag);
        const open = (): Uint8Array =>
          mode === "gcm" ? sm4GcmOpen(key, iv, aad, ct, tag) : sm4CcmOpen(key, iv, aad, ct, tag, tagSize / 8);
        const name = `case ${t.tcId}: ${t.comment}`;
        if (t.result !== "valid") {
          assert.throws(open, { name: "CryptoError" }, name);
          continue;
        }
        assert.equal(shown(open()), t.msg, name);
        const sealed =
          mode === "gcm" ? sm4GcmSeal(key, iv, aad, msg) : sm4CcmSeal(key, iv, aad, msg, tagSize / 8);
        assert.equal(shown(sealed.ciphertext) + shown(sealed.tag), t.ct + t.tag, name);
      }
    }
    assert.equal(seen, numberOfTests);
  });
}
