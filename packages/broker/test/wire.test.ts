import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { SecretBytes, toHex } from "@shelter/base";
import { flattenedDecrypt } from "jose";
import { encryptTo } from "../src/wire/jwe.ts";
import { parseAttestRequest, parseAuthRequest, reportData } from "../src/wire/messages.ts";
import { covers, parsePattern, parseResourcePath, parseResourceUri } from "../src/wire/resource-path.ts";
import { parseTeeKey } from "../src/wire/tee-key.ts";

const auth = (body: unknown) => parseAuthRequest(JSON.stringify(body));

// The key of RFC 7515 appendix A.3.
const RFC_KEY = {
  kty: "EC",
  crv: "P-256",
  alg: "ECDH-ES+A256KW",
  x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
  y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
};

test("report data is SHA-384 over the canonical JSON that Trustee's client hashes", () => {
  // Vector derived by hand from guest-components' rcar_client.rs: 32 zero bytes as nonce.
  const nonce = Buffer.alloc(32).toString("base64");
  assert.equal(
    toHex(reportData(nonce, parseTeeKey(RFC_KEY).jwk, "")),
    "d4bd1841ef158d7c3904848b81d834cafb2fb888d896151632a2aa5e8c258da20f8ba11735fc30d095f10ed26e055e09",
  );
});

test("report data does not depend on the order of the key's members and changes with each of them", () => {
  const jwk = parseTeeKey(RFC_KEY).jwk;
  const reversed = Object.fromEntries(Object.entries(RFC_KEY).reverse());
  assert.equal(toHex(reportData("n", parseTeeKey(reversed).jwk, "")), toHex(reportData("n", jwk, "")));
  assert.notEqual(toHex(reportData("m", jwk, "")), toHex(reportData("n", jwk, "")));
  assert.notEqual(toHex(reportData("n", jwk, "x")), toHex(reportData("n", jwk, "")));
});

test("takes exactly protocol 0.4.0", () => {
  assert.equal(auth({ version: "0.4.0", tee: "tpm", "extra-params": "" }).tee, "tpm");
  assert.equal(auth({ version: "0.4.0+build.7", tee: "snp" }).extraParams, "");
  for (const version of [
    "0.4.1",
    "0.1.1",
    "0.4",
    "0.4.0-rc.1",
    "00.4.0",
    " 0.4.0",
    "0.4.0 ",
    "0.4.0+",
    4,
    null,
  ]) {
    assert.throws(() => auth({ version, tee: "tpm" }), /protocol version .* is not 0\.4\.0/);
  }
});

test("knows Trustee's names of TEEs and no other", () => {
  assert.throws(() => auth({ version: "0.4.0", tee: "sev" }), /tee "sev" is not known/);
  assert.throws(() => auth({ version: "0.4.0" }), /tee nothing is not known/);
});

test("refuses duplicate keys, wrong types and nesting without end", () => {
  assert.throws(
    () => parseAuthRequest('{"version":"0.4.0","tee":"tpm","tee":"snp"}'),
    /has the key "tee" twice/,
  );
  assert.throws(() => parseAuthRequest("[]"), /not an object/);
  assert.throws(() => parseAuthRequest(""), /is not JSON/);
  assert.throws(() => parseAuthRequest(`${"[".repeat(70)}${"]".repeat(70)}`), /nested deeper than 64/);
  assert.throws(() => parseAttestRequest('{"runtime-data":{"nonce":1},"tee-evidence":{}}'), /no nonce/);
  assert.throws(
    () => parseAttestRequest('{"runtime-data":{"nonce":"n"},"tee-evidence":{}}'),
    /no primary_evidence/,
  );
});

test("takes P-256, P-521 and RSA-OAEP-256 keys, and nothing that looks like them", () => {
  assert.equal(parseTeeKey(RFC_KEY).thumbprint, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U");
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey.export({ format: "jwk" });
  const good = { kty: "RSA", alg: "RSA-OAEP-256", n: rsa.n ?? "", e: "AQAB" };
  assert.equal(parseTeeKey(good).alg, "RSA-OAEP-256");
  const small = generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export({ format: "jwk" });
  for (const [bad, reason] of [
    [{ ...RFC_KEY, crv: "P-384" }, /crv "P-384" is not/],
    [{ ...RFC_KEY, crv: "__proto__" }, /crv "__proto__" is not/],
    [{ ...RFC_KEY, alg: "ECDH-ES" }, /alg "ECDH-ES" is not/],
    [{ ...RFC_KEY, x: RFC_KEY.y }, /not on its curve/],
    [{ ...RFC_KEY, x: "AAAA" }, /x has 3 bytes, not 32/],
    [{ ...RFC_KEY, x: `${RFC_KEY.x}=` }, /x has|not base64url|not on/],
    [{ ...RFC_KEY, kid: "1" }, /the member "kid"/],
    [{ ...good, alg: "RSA1_5" }, /RSA1_5 is no longer safe/],
    [{ ...good, e: "Aw" }, /e is not AQAB/],
    [{ ...good, n: small.n ?? "" }, /has 1024 bits/],
    [{ ...good, n: "A".repeat(100_000) }, /longer than 8192 bits/],
    [{ kty: "oct", k: "AAAA" }, /kty "oct" is not/],
    [null, /not an object/],
    ["key", /not an object/],
  ] as const) {
    assert.throws(() => parseTeeKey(bad), reason);
  }
});

for (const kind of ["P-256", "P-521", "RSA"] as const) {
  test(`a resource encrypted to a ${kind} key opens with jose, and only whole`, async () => {
    const pair =
      kind === "RSA"
        ? generateKeyPairSync("rsa", { modulusLength: 2048 })
        : generateKeyPairSync("ec", { namedCurve: kind });
    const { n, e, x, y } = pair.publicKey.export({ format: "jwk" });
    const key = parseTeeKey(
      kind === "RSA"
        ? { kty: "RSA", alg: "RSA-OAEP-256", n: n ?? "", e: e ?? "" }
        : { kty: "EC", crv: kind, alg: "ECDH-ES+A256KW", x: x ?? "", y: y ?? "" },
    );
    const jwe = encryptTo(key, new SecretBytes(Buffer.from("the secret")));
    assert.deepEqual(Object.keys(jwe), ["protected", "encrypted_key", "iv", "ciphertext", "tag"]);
    const header = Buffer.from(jwe.protected, "base64url").toString();
    // guest-components rebuild the header from its parsed members, in this order.
    assert.match(
      header,
      kind === "RSA"
        ? /^\{"alg":"RSA-OAEP-256","enc":"A256GCM"\}$/
        : /^\{"alg":"ECDH-ES\+A256KW","enc":"A256GCM","epk":\{"crv":"P-(256|521)","kty":"EC","x":"[^"]+","y":"[^"]+"\}\}$/,
    );
    const { plaintext } = await flattenedDecrypt(jwe, pair.privateKey);
    assert.equal(Buffer.from(plaintext).toString(), "the secret");
    const flipped = Buffer.from(jwe.ciphertext, "base64url");
    flipped[0] = (flipped[0] ?? 0) ^ 1;
    await assert.rejects(
      flattenedDecrypt({ ...jwe, ciphertext: flipped.toString("base64url") }, pair.privateKey),
    );
  });
}

test("a resource path is three plain parts", () => {
  assert.equal(parseResourcePath("default/key/app-1.0_x"), "default/key/app-1.0_x");
  assert.equal(parseResourceUri("kbs:///a/b/c"), "a/b/c");
  assert.equal(parseResourceUri("kbs://host:8080/a/b/c"), "a/b/c");
  for (const bad of [
    "a/b",
    "a/b/c/d",
    "a//c",
    "/a/b/c",
    "a/b/c/",
    "../b/c",
    "a/../c",
    "a/b/..",
    "a/b/.hidden",
    "a/b/%63",
    "a/b/c%00",
    "a/b/c\0",
    "a/b/c\n",
    "a\\b/c/d",
    "a/b/ç",
    `a/b/${"c".repeat(129)}`,
    "",
  ]) {
    assert.throws(() => parseResourcePath(bad), { code: "RESOURCE_PATH" }, JSON.stringify(bad));
  }
});

test("a pattern's star stays inside its part", () => {
  const cases: [string, string, boolean][] = [
    ["kbs:///default/key/app", "default/key/app", true],
    ["kbs:///default/key/app", "default/key/apple", false],
    ["kbs:///default/*/app", "default/key/app", true],
    ["kbs:///default/key/*", "default/key/app", true],
    ["kbs:///default/key/*", "default/keys/app", false],
    ["kbs:///*/*/*", "a/b/c", true],
    ["kbs:///default/key/app-*-prod", "default/key/app-1-2-prod", true],
    ["kbs:///default/key/app-*-prod", "default/key/app-prod", false],
    ["kbs:///default/key/*a*b*c", "default/key/xxaxxbxxbc", true],
    ["kbs:///default/key/*a*b*c", "default/key/xxaxxbxxcb", false],
  ];
  for (const [pattern, path, expected] of cases) {
    assert.equal(covers(parsePattern(pattern), parseResourcePath(path)), expected, `${pattern} ${path}`);
  }
  for (const bad of [
    "*",
    "kbs:///*",
    "kbs:///a/**/c",
    "kbs:///a/b/c/*",
    "kbs://host/a/b/c",
    "kbs:///a/b/",
    "a/b/.*",
  ]) {
    assert.throws(() => parsePattern(bad), { code: "PATTERN_MALFORMED" }, bad);
  }
});

test("a pattern made to be slow is not", () => {
  const pattern = parsePattern(`a/b/${"*a".repeat(60)}`);
  assert.equal(covers(pattern, parseResourcePath(`a/b/${"a".repeat(127)}b`)), false);
});
