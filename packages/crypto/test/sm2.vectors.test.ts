import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { SecretBytes } from "@shelter/base";
import { Sm2, type Sm2Hash, sm2 } from "../src/index.ts";
import { Domain, SM2P256V1, toBytes, toNumber } from "../src/sm2/domain.ts";
import { ciphertextDer, encryptWith } from "../src/sm2/encrypt.ts";
import { messageNumber } from "../src/sm2/identity.ts";
import { nativeVerifier } from "../src/sm2/native.ts";
import { signNumberWith } from "../src/sm2/sign.ts";
import { verifyNumber } from "../src/sm2/verify.ts";
import { hex, jsonVectors, records, skip, vectors } from "./vectors.ts";

interface OpensslVectors {
  readonly keys: readonly { readonly id: number; readonly d: string; readonly publicKey: string }[];
  readonly signatures: readonly {
    readonly key: number;
    readonly userIdHex: string;
    readonly msg: string;
    readonly sigDer: string;
    readonly r?: string;
    readonly s?: string;
    readonly valid: boolean;
    readonly why?: string;
  }[];
  readonly encryptions: readonly {
    readonly key: number;
    readonly plain: string;
    readonly cipherDer: string;
    readonly valid: boolean;
  }[];
}

const HASHES: Readonly<Record<string, Sm2Hash>> = { SM3: "sm3", "SHA-256": "sha256" };

test("agrees with OpenSSL on 48 signatures, natively and in big integers", { skip }, () => {
  const { keys, signatures } = jsonVectors<OpensslVectors>("sm2-openssl-kat-a.json");
  assert.equal(signatures.length, 48);
  const domain = new Domain(SM2P256V1);
  const native = nativeVerifier(domain);
  for (const v of signatures) {
    const publicKey = hex(keys.find((k) => k.id === v.key)?.publicKey ?? "");
    const identity = hex(v.userIdHex);
    const name = `key ${v.key}, ${v.why ?? "valid"}`;
    assert.equal(sm2.verify(publicKey, hex(v.msg), hex(v.sigDer), { identity, form: "der" }), v.valid, name);
    if (v.r === undefined || v.s === undefined) continue;
    const raw = hex(v.r + v.s);
    assert.equal(sm2.verify(publicKey, hex(v.msg), raw, { identity }), v.valid, name);
    const e = messageNumber(domain, "sm3", publicKey, hex(v.msg), identity);
    const numbers = { r: toNumber(hex(v.r)), s: toNumber(hex(v.s)) };
    const point = domain.readPoint(publicKey);
    assert.equal(verifyNumber(domain, point, e, numbers), v.valid, name);
    if (native !== null) assert.equal(native.verify(domain, point, e, numbers), v.valid, name);
  }
});

test("decrypts what OpenSSL encrypted, refuses what was altered", { skip }, () => {
  const { keys, encryptions } = jsonVectors<OpensslVectors>("sm2-openssl-kat-a.json");
  assert.equal(encryptions.length, 12);
  for (const v of encryptions) {
    const key = new SecretBytes(hex(keys.find((k) => k.id === v.key)?.d ?? ""));
    const run = (): Uint8Array => sm2.decrypt(key, hex(v.cipherDer), "der");
    if (v.valid) assert.equal(Buffer.from(run()).toString("hex"), v.plain);
    else assert.throws(run, { code: "SM2_CIPHERTEXT", kind: "refused" });
  }
});

test("makes the public keys OpenSSL made", { skip }, () => {
  for (const k of jsonVectors<OpensslVectors>("sm2-openssl-kat-a.json").keys) {
    assert.equal(Buffer.from(sm2.publicKey(new SecretBytes(hex(k.d)))).toString("hex"), k.publicKey);
  }
});

/** The curve of Botan's records holds until the next one. */
function botan(
  name: string,
): { domain: Domain; suite: Sm2; hash: Sm2Hash | "Raw"; record: Map<string, string> }[] {
  const state = new Map<string, string>();
  const out: { domain: Domain; suite: Sm2; hash: Sm2Hash | "Raw"; record: Map<string, string> }[] = [];
  for (const block of records(vectors(name))) {
    for (const [key, value] of block) state.set(key, value);
    if (!block.has("Signature") && !block.has("Ciphertext")) continue;
    const number = (key: string): bigint => BigInt(state.get(key) ?? "");
    const parameters = {
      p: number("P"),
      a: number("A"),
      b: number("B"),
      n: number("Order"),
      gx: number("xG"),
      gy: number("yG"),
    };
    const hashName = state.get("Hash") ?? "SM3";
    const hash = HASHES[hashName];
    out.push({
      domain: new Domain(parameters),
      suite: new Sm2(parameters, hash ?? "sm3"),
      hash: hash ?? "Raw",
      record: new Map(state),
    });
  }
  return out;
}

test("makes and accepts Botan's signatures on three curves, with SM3, SHA-256 and raw digests", {
  skip,
}, () => {
  const cases = botan("botan-sm2_sig.vec");
  assert.equal(cases.length, 7);
  for (const { domain, suite, hash, record } of cases) {
    const d = BigInt(record.get("x") ?? "");
    const publicKey = suite.publicKey(new SecretBytes(toBytes(d)));
    const message = hex(record.get("Msg") ?? "");
    const identity = Buffer.from(record.get("Ident") ?? "");
    const signature = (record.get("Signature") ?? "").toLowerCase();
    const e = hash === "Raw" ? toNumber(message) : messageNumber(domain, hash, publicKey, message, identity);
    const made = signNumberWith(domain, d, e, toNumber(hex(record.get("Nonce") ?? "")));
    assert.ok(made);
    assert.equal(Buffer.concat([toBytes(made.r), toBytes(made.s)]).toString("hex"), signature);
    const accepts = (bytes: Uint8Array): boolean =>
      hash === "Raw"
        ? suite.verifyDigest(publicKey, message, bytes)
        : suite.verify(publicKey, message, bytes, { identity });
    assert.equal(accepts(hex(signature)), true);
    const altered = Buffer.from(signature, "hex");
    altered[63] = (altered[63] ?? 0) ^ 1;
    assert.equal(accepts(altered), false);
  }
});

test("makes and opens Botan's ciphertexts", { skip }, () => {
  const cases = botan("botan-sm2_enc.vec");
  assert.equal(cases.length, 5);
  for (const { domain, suite, hash, record } of cases) {
    assert.notEqual(hash, "Raw");
    const key = new SecretBytes(toBytes(BigInt(record.get("x") ?? "")));
    const message = hex(record.get("Msg") ?? "");
    const expected = (record.get("Ciphertext") ?? "").toLowerCase();
    const publicKey = domain.readPoint(suite.publicKey(key));
    const made = encryptWith(
      domain,
      hash as Sm2Hash,
      publicKey,
      message,
      toNumber(hex(record.get("Nonce") ?? "")),
    );
    assert.ok(made);
    assert.equal(Buffer.from(ciphertextDer(made)).toString("hex"), expected);
    assert.deepEqual(Buffer.from(suite.decrypt(key, hex(expected), "der")), Buffer.from(message));
  }
});

test("agrees with OpenSSL's own SM2 test file", { skip }, () => {
  const all = records(vectors("openssl-evppkey_sm2.txt"));
  const pkcs8 = Buffer.from(all.find((r) => r.has("Pkcs8DerBase64"))?.get("Pkcs8DerBase64") ?? "", "base64");
  const key = new SecretBytes(new Uint8Array(pkcs8.subarray(36, 68)));
  const publicKey = sm2.publicKey(key);
  assert.deepEqual(Buffer.from(publicKey), pkcs8.subarray(pkcs8.byteLength - 65));
  let verified = 0;
  let opened = 0;
  const skipped: string[] = [];
  for (const r of all) {
    if (r.has("Verify") && r.has("Result")) skipped.push("SHA-512 under SM2: not a digest of 256 bits");
    else if (r.has("Verify")) {
      assert.equal(
        sm2.verifyDigest(publicKey, hex(r.get("Input") ?? ""), hex(r.get("Output") ?? ""), "der"),
        true,
      );
      verified++;
    } else if (r.has("Decrypt")) {
      const plain = sm2.decrypt(key, hex(r.get("Input") ?? ""), "der");
      assert.equal(`"${Buffer.from(plain).toString()}"`, r.get("Output"));
      opened++;
    } else if (r.has("Sign")) skipped.push("an expected failure of EVP_PKEY_sign without a value to compare");
    else if (r.has("KeyGen")) skipped.push("key generation without a value to compare");
  }
  assert.deepEqual([verified, opened, skipped.length], [2, 4, 4], skipped.join("; "));
});

test("a digest of the message stands for the message when the identity is in it", { skip }, () => {
  const { keys, signatures } = jsonVectors<OpensslVectors>("sm2-openssl-kat-a.json");
  const v = signatures.find((s) => s.valid);
  assert.ok(v);
  const publicKey = hex(keys.find((k) => k.id === v.key)?.publicKey ?? "");
  const za = sm2.identityDigest(publicKey, hex(v.userIdHex));
  const digest = createHash("sm3").update(za).update(hex(v.msg)).digest();
  assert.equal(sm2.verifyDigest(publicKey, digest, hex(v.sigDer), "der"), true);
  digest[0] = (digest[0] ?? 0) ^ 1;
  assert.equal(sm2.verifyDigest(publicKey, digest, hex(v.sigDer), "der"), false);
});
