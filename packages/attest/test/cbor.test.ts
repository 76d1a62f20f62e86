import assert from "node:assert/strict";
import { createECDH, createPrivateKey, generateKeyPairSync, sign } from "node:crypto";
import { test } from "node:test";
import {
  CborTag,
  coseSigStructure,
  decodeCbor,
  parseCoseKey,
  parseCoseSign1,
  parseSec1Point,
  showCbor,
  verifyCoseSign1,
} from "../src/cbor/index.ts";
import { cbor, Pairs, Tagged } from "./cbor-write.ts";

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text.replace(/\s/g, ""), "hex"));
const decode = (text: string): unknown => decodeCbor(hex(text), "sample");

// RFC 8949 appendix A, what of it this reader accepts.
const EXAMPLES: readonly (readonly [string, unknown])[] = [
  ["00", 0],
  ["01", 1],
  ["0a", 10],
  ["17", 23],
  ["1818", 24],
  ["1819", 25],
  ["1864", 100],
  ["1903e8", 1000],
  ["1a000f4240", 1000000],
  ["1b000000e8d4a51000", 1000000000000],
  ["1bffffffffffffffff", 18446744073709551615n],
  ["3bffffffffffffffff", -18446744073709551616n],
  ["20", -1],
  ["29", -10],
  ["3863", -100],
  ["3903e7", -1000],
  ["f4", false],
  ["f5", true],
  ["f6", null],
  ["f7", undefined],
  ["40", new Uint8Array()],
  ["4401020304", hex("01020304")],
  ["60", ""],
  ["6161", "a"],
  ["6449455446", "IETF"],
  ["62225c", '"\\'],
  ["62c3bc", "ü"],
  ["63e6b0b4", "水"],
  ["64f0908591", "𐅑"],
  ["80", []],
  ["83010203", [1, 2, 3]],
  ["8301820203820405", [1, [2, 3], [4, 5]]],
  ["a0", new Map()],
  [
    "a201020304",
    new Map([
      [1, 2],
      [3, 4],
    ]),
  ],
  [
    "a26161016162820203",
    new Map<string, unknown>([
      ["a", 1],
      ["b", [2, 3]],
    ]),
  ],
  ["826161a161626163", ["a", new Map([["b", "c"]])]],
  ["c11a514b67b0", new CborTag(1, 1363896240)],
];

test("reads the examples of RFC 8949 appendix A", () => {
  for (const [text, expected] of EXAMPLES) assert.deepEqual(decode(text), expected, text);
});

const REFUSED: readonly (readonly [string, string, RegExp])[] = [
  ["an indefinite byte string", "5f42010243030405ff", /indefinite length/],
  ["an indefinite text", "7f657374726561646d696e67ff", /indefinite length/],
  ["an indefinite array", "9fff", /indefinite length/],
  ["an indefinite map", "bf61610161629f0203ffff", /indefinite length/],
  ["a stray break", "ff", /break/],
  ["a float of 16 bits", "f90000", /floating-point/],
  ["a float of 32 bits", "fa47c35000", /floating-point/],
  ["a float of 64 bits", "fb3ff199999999999a", /floating-point/],
  ["an unassigned simple value", "f0", /simple value/],
  ["a simple value of two bytes", "f8ff", /simple value/],
  ["reserved information", "1c", /reserved/],
  ["0 in two bytes", "1800", /shortest/],
  ["23 in two bytes", "1817", /shortest/],
  ["255 in three bytes", "1900ff", /shortest/],
  ["65535 in five bytes", "1a0000ffff", /shortest/],
  ["2^32 - 1 in nine bytes", "1b00000000ffffffff", /shortest/],
  ["a length in too many bytes", "580161", /shortest/],
  ["a tag in too many bytes", "d80100", /shortest/],
  ["a key twice", "a201020103", /key 1 twice/],
  ["a text key twice", "a2616101616102", /key "a" twice/],
  ["a key of bytes", "a14101 02", /key that is no integer/],
  ["a key of null", "a1f602", /key that is no integer/],
  ["a key past 2^53", "a11bffffffffffffffff00", /key that is no integer/],
  ["text that is not UTF-8", "61ff", /not UTF-8/],
  ["half a surrogate pair", "63eda080", /not UTF-8/],
  ["bytes behind the item", "0000", /1 bytes behind/],
  ["nothing", "", /need 1 bytes/],
  ["a byte string past the end", "5bffffffffffffffff", /length of/],
  ["an array past the end", "9a7fffffff00", /length of/],
  ["a map past the end", "a200", /length of/],
  ["deep nesting", `${"81".repeat(20)}00`, /nested deeper/],
  ["deep tags", `${"c1".repeat(20)}00`, /nested deeper/],
];

for (const [name, text, message] of REFUSED) {
  test(`refuses ${name}`, () => {
    assert.throws(() => decode(text), { kind: "malformed", message });
  });
}

test("refuses too many items and too many bytes", () => {
  const wide = Buffer.concat([hex("995000"), Buffer.alloc(0x5000)]);
  assert.throws(() => decodeCbor(wide, "wide"), /more than 20000 items/);
  assert.throws(() => decodeCbor(new Uint8Array(2 ** 20 + 1), "large"), /at most 1048576/);
});

test("every strict prefix of a nested item is malformed", () => {
  const item = cbor(
    new Pairs([
      [1, [new Uint8Array(30), "text"]],
      ["k", new Tagged(18, -70000)],
    ]),
  );
  assert.doesNotThrow(() => decodeCbor(item, "whole"));
  for (let length = 0; length < item.length; length++) {
    assert.throws(() => decodeCbor(item.subarray(0, length), "cut"), { kind: "malformed" });
  }
});

test("shows items in diagnostic notation, cut", () => {
  assert.equal(showCbor(decodeCbor(hex("a1012041ff".slice(0, 6)), "x")), "{1: -1}");
  assert.equal(showCbor(new Uint8Array(200)).length, 80);
});

test("names the same Sig_structure as RFC 9052 appendix C.2.1", () => {
  // Key "11", ECDSA 256 over the payload "This is the content.".
  const message = parseCoseSign1(
    hex(
      "d28443a10126a10442313154546869732069732074686520636f6e74656e742e58408eb33e4ca31d1c465ab05aac34cc6b23d58fef5c083106c4d25a91aef0b0117e2af9a291aa32e14ab834dc56ed2a223444547e01f11d3b0916e5a4c345cacb36",
    ),
    "example",
  );
  assert.equal(
    Buffer.from(coseSigStructure(message)).toString("hex"),
    "846a5369676e61747572653143a101264054546869732069732074686520636f6e74656e742e",
  );
  const key = parseSec1Point(
    hex(
      "04bac5b11cad8f99f9c72b05cf4b9e26d244dc189f745228255a219a86d6a09eff20138bf82dc1b6d562be0fa54ab7804a3a64b6d72ccfed6b6fb6ed28bbfc117e",
    ),
    "key 11",
  );
  assert.equal(verifyCoseSign1(message, key), true);
});

const EC = { "P-256": [-7, "sha256", 1], "P-384": [-35, "sha384", 2], "P-521": [-36, "sha512", 3] } as const;

function signed(
  curve: keyof typeof EC,
  alg: number = EC[curve][0],
): { bytes: Buffer; point: Uint8Array; key: Uint8Array } {
  const [, hash, crv] = EC[curve];
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: curve });
  const jwk = privateKey.export({ format: "jwk" });
  const x = Buffer.from(String(jwk.x), "base64url");
  const y = Buffer.from(String(jwk.y), "base64url");
  const header = cbor(new Pairs([[1, alg]]));
  const payload = Buffer.from("payload");
  const tbs = cbor(["Signature1", header, Buffer.alloc(0), payload]);
  const signature = sign(hash, tbs, {
    key: createPrivateKey({ key: jwk, format: "jwk" }),
    dsaEncoding: "ieee-p1363",
  });
  return {
    bytes: cbor(new Tagged(18, [header, new Pairs([]), payload, signature])),
    point: Buffer.concat([Buffer.of(4), x, y]),
    key: cbor(
      new Pairs([
        [1, 2],
        [-1, crv],
        [-2, x],
        [-3, y],
      ]),
    ),
  };
}

for (const curve of ["P-256", "P-384", "P-521"] as const) {
  test(`verifies what OpenSSL signed over ${curve}, and none of its bits altered`, () => {
    const { bytes, point, key } = signed(curve);
    const message = parseCoseSign1(bytes, "message");
    assert.equal(verifyCoseSign1(message, parseSec1Point(point, "key")), true);
    assert.equal(verifyCoseSign1(message, parseCoseKey(key, "key")), true);
    for (let bit = 0; bit < bytes.length * 8; bit += 5) {
      const altered = Buffer.from(bytes);
      altered[bit >> 3] = (altered[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      let ok = false;
      try {
        ok = verifyCoseSign1(parseCoseSign1(altered, "altered"), parseSec1Point(point, "key"));
      } catch (error) {
        assert.equal((error as { kind?: string }).kind, "malformed");
      }
      assert.equal(ok, false, `bit ${bit}`);
    }
  });
}

test("an algorithm goes with its own curve, a signature has its exact length and range", () => {
  const { bytes, point } = signed("P-256", -35);
  assert.equal(verifyCoseSign1(parseCoseSign1(bytes, "message"), parseSec1Point(point, "key")), false);
  const good = signed("P-256");
  const message = parseCoseSign1(good.bytes, "message");
  const key = parseSec1Point(good.point, "key");
  const n = hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
  const { signature } = message;
  const [r, s] = [signature.subarray(0, 32), signature.subarray(32)];
  for (const wrong of [
    new Uint8Array(64),
    Buffer.concat([r, new Uint8Array(32)]),
    Buffer.concat([new Uint8Array(32), s]),
    Buffer.concat([r, n]),
    Buffer.concat([n, s]),
    signature.subarray(0, 63),
    Buffer.concat([signature, Buffer.of(0)]),
    new Uint8Array(),
  ]) {
    assert.equal(verifyCoseSign1({ ...message, signature: wrong }, key), false);
  }
});

test("refuses a COSE_Sign1 of another shape", () => {
  const header = cbor(new Pairs([[1, -7]]));
  const part = Buffer.from("x");
  const empty = new Pairs([]);
  const cases: readonly (readonly [unknown, RegExp])[] = [
    [[header, empty, part], /array of four/],
    [[header, empty, part, part, part], /array of four/],
    [new Tagged(98, [header, empty, part, part]), /array of four/],
    [[empty, empty, part, part], /protected header is no byte string/],
    [[header, part, part, part], /unprotected header is no map/],
    [[header, empty, null, part], /payload is not inside/],
    [[header, empty, part, null], /signature is no byte string/],
    [[cbor([1, -7]), empty, part, part], /protected header is no map/],
    [[cbor(empty), new Pairs([[1, -7]]), part, part], /no algorithm in the protected header/],
    [[header, new Pairs([[1, -7]]), part, part], /both protected and unprotected/],
    [
      [
        cbor(
          new Pairs([
            [1, -7],
            [2, [99]],
          ]),
        ),
        empty,
        part,
        part,
      ],
      /critical headers/,
    ],
    [[cbor(new Pairs([[1, "ES256"]])), empty, part, part], /no algorithm/],
    [
      [
        cbor(
          new Pairs([
            [1, -7],
            [1, -7],
          ]),
        ),
        empty,
        part,
        part,
      ],
      /key 1 twice/,
    ],
  ];
  for (const [item, message] of cases) {
    assert.throws(() => parseCoseSign1(cbor(item), "message"), { kind: "malformed", message });
  }
});

test("refuses keys off the curve, of other types and of odd lengths", () => {
  const ecdh = createECDH("prime256v1");
  const point = new Uint8Array(ecdh.generateKeys());
  const off = Uint8Array.from(point);
  off[64] = (off[64] ?? 0) ^ 1;
  assert.throws(() => parseSec1Point(off, "key"), /not a point of P-256/);
  assert.throws(() => parseSec1Point(point.subarray(0, 64), "key"), /no uncompressed point/);
  assert.throws(
    () => parseSec1Point(new Uint8Array(ecdh.getPublicKey(null, "compressed")), "key"),
    /no uncompressed point/,
  );
  const x = point.subarray(1, 33);
  const y = point.subarray(33);
  const key =
    (...pairs: [unknown, unknown][]): (() => unknown) =>
    () =>
      parseCoseKey(cbor(new Pairs(pairs)), "key");
  assert.doesNotThrow(key([1, 2], [-1, 1], [-2, x], [-3, y]));
  assert.throws(key([1, 1], [-1, 1], [-2, x], [-3, y]), /kty is 1/);
  assert.throws(key([1, 2], [-1, 0], [-2, x], [-3, y]), /crv is 0/);
  assert.throws(key([1, 2], [-1, 2], [-2, x], [-3, y]), /coordinates of 32 and 32 bytes/);
  assert.throws(key([1, 2], [-1, 1], [-2, x], [-3, true]), /y is true, expected bytes/);
  assert.throws(key([1, 2], [-1, 1], [-2, x]), /y is missing/);
  assert.throws(key([1, 2], [3, -35], [-1, 1], [-2, x], [-3, y]), /alg -35 does not go with P-256/);
});
