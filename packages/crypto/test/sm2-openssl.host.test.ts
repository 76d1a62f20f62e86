import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { SecretBytes } from "@shelter/base";
import { sm2 } from "../src/index.ts";
import { derElement, derSequence } from "../src/sm2/der.ts";

const openssl = (...args: readonly string[]): boolean => spawnSync("openssl", args).status === 0;
const skip = openssl("ecparam", "-name", "SM2", "-noout") ? false : "no openssl command that knows SM2";

/** SubjectPublicKeyInfo naming sm2p256v1. */
function pem(publicKey: Uint8Array): string {
  const oid = (hex: string): Uint8Array => derElement(0x06, Buffer.from(hex, "hex"));
  const algorithm = derSequence(oid("2a8648ce3d0201"), oid("2a811ccf5501822d"));
  const der = derSequence(algorithm, derElement(0x03, Buffer.concat([Uint8Array.of(0), publicKey])));
  return `-----BEGIN PUBLIC KEY-----\n${Buffer.from(der).toString("base64").replaceAll(/.{64}/g, "$&\n")}\n-----END PUBLIC KEY-----\n`;
}

test("the openssl command accepts our signatures under their identity, and no other", { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "sm2-"));
  try {
    const path = (name: string): string => join(folder, name);
    for (const identity of ["1234567812345678", "HYGON-SSD-CEK", "someone@example.org"]) {
      const key = new SecretBytes(sm2.generate());
      const message = randomBytes(200);
      const signature = sm2.sign(key, message, { identity: Buffer.from(identity), form: "der" });
      writeFileSync(path("key.pem"), pem(sm2.publicKey(key)));
      writeFileSync(path("message"), message);
      writeFileSync(path("signature"), signature);
      const verify = (id: string): boolean =>
        openssl(
          ...["pkeyutl", "-verify", "-pubin", "-inkey", path("key.pem"), "-rawin", "-digest", "sm3"],
          ...["-in", path("message"), "-sigfile", path("signature"), "-pkeyopt", `distid:${id}`],
        );
      assert.equal(verify(identity), true, identity);
      assert.equal(verify("another"), false);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});
