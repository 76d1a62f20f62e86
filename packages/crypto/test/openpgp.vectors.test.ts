import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { inflateRawSync } from "node:zlib";
import { SecretBytes } from "@shelter/base";
import { sm2, sm3 } from "../src/index.ts";
import {
  armoured,
  hashedKey,
  hashedUserId,
  keyPoint,
  keySecret,
  mpi,
  openProtected,
  type Packet,
  packets,
  signature,
} from "./openpgp.ts";
import { skip, VECTORS, vectors } from "./vectors.ts";

const HASHES: Readonly<Record<number, string>> = { 8: "sha256", 105: "sm3" };
const file = (name: string): string => vectors(join("rnp-openpgp", name));
const EMPTY = new Uint8Array();

function bodies(all: readonly Packet[], ...tags: readonly number[]): readonly Buffer[] {
  return all.filter((p) => tags.includes(p.tag)).map((p) => p.body);
}

/** Certifications and bindings of a key ring: the key, what is hashed before the trailer, the signature. */
function ring(name: string): { point: Buffer; parts: readonly (readonly [Buffer, Buffer])[] } {
  const all = packets(armoured(name));
  const [primary] = bodies(all, 6);
  assert.ok(primary);
  let subject: Uint8Array = new Uint8Array();
  const parts: [Buffer, Buffer][] = [];
  for (const { tag, body } of all) {
    if (tag === 13) subject = hashedUserId(body);
    else if (tag === 14) subject = hashedKey(body);
    else if (tag === 2) parts.push([Buffer.concat([hashedKey(primary), subject]), body]);
  }
  return { point: keyPoint(primary).point, parts };
}

test("rnp's certifications hold under the default identity, and not under the empty one", { skip }, () => {
  const { point, parts } = ring(file("pub.asc"));
  assert.equal(parts.length, 2);
  for (const [data, body] of parts) {
    const { trailer, raw } = signature(body);
    const tbs = Buffer.concat([data, trailer]);
    assert.equal(sm2.verify(point, tbs, raw), true);
    assert.equal(sm2.verify(point, tbs, raw, { identity: EMPTY }), false);
  }
});

test("the draft's certifications hash twice, under the empty identity", { skip }, () => {
  const { point, parts } = ring(vectors("draft-sca-example-pub.asc"));
  assert.equal(parts.length, 2);
  for (const [data, body] of parts) {
    const { trailer, raw } = signature(body);
    const tbs = Buffer.concat([data, trailer]);
    assert.equal(sm2.verify(point, sm3(tbs), raw, { identity: EMPTY }), true);
    assert.equal(sm2.verify(point, tbs, raw), false);
  }
});

test("rnp's document signatures hold over the digest, without any identity", { skip }, () => {
  const { point } = ring(file("pub.asc"));
  const text = Buffer.from(file("m.txt"));
  const canonical = Buffer.from(text.toString().replaceAll("\n", "\r\n"));
  for (const [name, data, armour] of [
    ["m.sm3.asc", text, file("m.sm3.asc")],
    ["m.sha256.asc", text, file("m.sha256.asc")],
    ["m.clear.asc", canonical, file("m.clear.asc").replace(/^[\s\S]*?(?=-----BEGIN PGP SIGNATURE)/, "")],
  ] as const) {
    const [body] = bodies(packets(armoured(armour)), 2);
    assert.ok(body, name);
    const { trailer, raw, hash } = signature(body);
    const digest = createHash(HASHES[hash] ?? "")
      .update(data)
      .update(trailer)
      .digest();
    assert.equal(sm2.verifyDigest(point, digest, raw), true, name);
    digest[5] = (digest[5] ?? 0) ^ 1;
    assert.equal(sm2.verifyDigest(point, digest, raw), false, name);
  }
});

/** The text of a literal packet, inside a compressed one or not. */
function literal(all: readonly Packet[]): string {
  const [compressed] = bodies(all, 8);
  if (compressed !== undefined)
    return literal(packets(inflateRawSync(compressed.subarray(compressed[0] === 2 ? 3 : 1))));
  const [body] = bodies(all, 11);
  assert.ok(body);
  return body.subarray(2 + (body[1] ?? 0) + 4).toString();
}

function sessionKey(all: readonly Packet[]): Buffer {
  const secrets = packets(readFileSync(join(VECTORS, "rnp-openpgp/sec.gpg")));
  const [body] = bodies(secrets, 7);
  const [wrapped] = bodies(all, 1);
  assert.ok(body && wrapped);
  const secret = new SecretBytes(keySecret(body));
  assert.deepEqual(Buffer.from(sm2.publicKey(secret)), keyPoint(body).point);
  const { value } = mpi(wrapped, 10);
  assert.equal(value[value.length - 1], 105); // the hash of the key derivation
  const session = Buffer.from(sm2.decrypt(secret, value.subarray(0, -1), "der"));
  assert.equal(session[0], 105); // SM4
  const key = session.subarray(1, 17);
  assert.equal(
    session.readUInt16BE(17),
    key.reduce((sum, b) => (sum + b) & 0xffff, 0),
  );
  return key;
}

test("a message rnp encrypted to an SM2 key opens, under SM4-CFB", { skip }, () => {
  const all = packets(armoured(file("m.sm4-cfb.asc")));
  const key = sessionKey(all);
  const [sealed] = bodies(all, 18);
  assert.ok(sealed);
  assert.equal(literal(openProtected(sealed, key)), file("m.txt"));
  key[0] = (key[0] ?? 0) ^ 1;
  assert.throws(() => openProtected(sealed, key));
});

test("the session keys of rnp's EAX and OCB messages open; those modes are not ours", { skip }, () => {
  for (const name of ["m.sm4-eax.asc", "m.sm4-ocb.asc"]) {
    assert.equal(sessionKey(packets(armoured(file(name)))).length, 16);
  }
});

test("a message rnp encrypted under a password opens, its key salted and iterated", { skip }, () => {
  const all = packets(armoured(file("m.sym-sm4.asc")));
  const [derivation] = bodies(all, 3);
  const [sealed] = bodies(all, 18);
  assert.ok(derivation && sealed);
  const [version, cipher, type, hash] = derivation;
  assert.deepEqual([version, cipher, type], [4, 105, 3]);
  const coded = derivation[12] ?? 0;
  const count = (16 + (coded & 15)) << ((coded >> 4) + 6);
  const unit = Buffer.concat([derivation.subarray(4, 12), Buffer.from("vector-pass")]);
  const repeated = Buffer.alloc(Math.max(count, unit.length), unit);
  const key = createHash(HASHES[hash ?? 0] ?? "")
    .update(repeated)
    .digest()
    .subarray(0, 16);
  assert.equal(literal(openProtected(sealed, key)), file("m.txt"));
});
