import assert from "node:assert/strict";
import { createPrivateKey, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  AWS_NITRO_ROOT,
  type NitroInput,
  parseNitroDocument,
  renderNitro,
  verifyNitro,
} from "../src/nitro/index.ts";
import { cbor, Pairs, Tagged } from "./cbor-write.ts";
import { AGREES, corpus, failures, item, needed, nitroInput, skip } from "./csv-cca-nitro-corpus.ts";

const REASON: Readonly<Record<string, RegExp>> = {
  "signature-invalid": /^signature$/,
  truncated: /^document-form$/,
  "nonce-mismatch": /^nonce$/,
  "debug-enabled": /^debug$/,
  "cert-expired": /^certificate-validity$/,
  "untrusted-root": /^certificate-anchor$/,
};

const failed = (input: NitroInput): readonly string[] =>
  verifyNitro(input)
    .checks.filter((c) => !c.ok)
    .map((c) => c.name);

for (const of of corpus("nitro")) {
  test(`${of.id}: ${of.expected.verdict}`, () => {
    const verdict = verifyNitro(nitroInput(of));
    assert.ok(
      AGREES[of.expected.verdict].includes(verdict.outcome),
      `${verdict.outcome}: ${failures(verdict)}`,
    );
    for (const reason of of.expected.reasons ?? []) {
      const expected = REASON[reason];
      assert.ok(expected, `no check stands for ${reason}`);
      assert.ok(
        verdict.checks.some((c) => !c.ok && expected.test(c.name)),
        `${reason}: ${failures(verdict)}`,
      );
    }
    for (const [name, value] of Object.entries(of.expected.fields ?? {})) {
      assert.deepEqual(verdict.claims[name], value, name);
    }
  });
}

test("the built-in root is AWS's, and judges like the pinned one", { skip }, () => {
  assert.deepEqual(Buffer.from(AWS_NITRO_ROOT), Buffer.from(needed(item("aws-root"), "root_der")));
  const { root: _, ...input } = nitroInput(item("nitro-2022-veracruz"));
  assert.equal(verifyNitro(input).outcome, "accepted");
});

test("a look-alike root is trusted only when it is pinned", { skip }, () => {
  const of = item("nitro-synthetic-lookalike-root");
  const pinned = verifyNitro({ ...nitroInput(of), root: needed(of, "test_root") });
  assert.equal(pinned.outcome, "accepted", failures(pinned));
});

test("debug mode is accepted only when it is allowed", { skip }, () => {
  const input = nitroInput(item("nitro-2022-debug"));
  assert.deepEqual(failed(input), ["debug"]);
  assert.equal(verifyNitro({ ...input, expect: { ...input.expect, allowDebug: true } }).outcome, "accepted");
});

test("no altered bit of the signed document is accepted (every 149th)", { skip }, () => {
  const input = nitroInput(item("nitro-2022-veracruz"));
  const expect = {};
  const { document } = input;
  for (let bit = 0; bit < document.length * 8; bit += 149) {
    // The empty unprotected header is the only byte that is neither signed nor structure.
    const altered = Uint8Array.from(document);
    altered[bit >> 3] = (altered[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.notEqual(verifyNitro({ ...input, expect, document: altered }).outcome, "accepted", `bit ${bit}`);
  }
});

test("a document cut anywhere or with a byte behind it is malformed", { skip }, () => {
  const input = nitroInput(item("nitro-2022-veracruz"));
  const { document } = input;
  for (let length = 0; length < document.length; length++) {
    assert.equal(verifyNitro({ ...input, document: document.subarray(0, length) }).outcome, "malformed");
  }
  assert.deepEqual(failed({ ...input, document: Buffer.concat([document, Buffer.of(0)]) }), [
    "document-form",
  ]);
});

test("expected registers, module, key and age are compared", { skip }, () => {
  const input = nitroInput(item("nitro-2023-sparsity2"));
  const document = parseNitroDocument(input.document);
  const pcr0 = document.pcrs.get(0) ?? new Uint8Array();
  const other = new Uint8Array(48).fill(1);
  const outcome = (expect: NonNullable<NitroInput["expect"]>, at = input.at): string =>
    verifyNitro({ ...input, at, expect }).outcome;
  assert.equal(outcome({ pcrs: { 0: [other, pcr0] } }), "accepted");
  assert.equal(outcome({ pcrs: { 0: [other] } }), "refused");
  assert.equal(outcome({ pcrs: { 0: [] } }), "refused");
  assert.equal(outcome({ pcrs: { 31: [new Uint8Array(48)] } }), "refused");
  assert.equal(outcome({ moduleIds: [document.moduleId] }), "accepted");
  assert.equal(outcome({ moduleIds: ["another"] }), "refused");
  assert.equal(outcome({ publicKey: new Uint8Array() }), "accepted");
  assert.equal(outcome({ publicKey: Uint8Array.of(1) }), "untrusted");
  assert.equal(outcome({ userData: new Uint8Array() }), "untrusted");
  const later = new Date(document.timestamp + 60_000);
  assert.equal(outcome({ maximumAge: 61 }, later), "accepted");
  assert.equal(outcome({ maximumAge: 59 }, later), "expired");
});

test("a time that is none is the caller's mistake, not a verdict", { skip }, () => {
  const input = nitroInput(item("nitro-2022-veracruz"));
  assert.throws(() => verifyNitro({ ...input, at: new Date(Number.NaN) }), RangeError);
});

test("prints every field under AWS's names", { skip }, () => {
  const [cose] = renderNitro(nitroInput(item("nitro-2022-veracruz")).document);
  assert.deepEqual(
    cose?.children?.[1]?.children?.map((f) => f.name),
    [
      "module_id",
      "digest",
      "timestamp",
      "pcrs",
      "certificate",
      "cabundle",
      "public_key",
      "user_data",
      "nonce",
    ],
  );
});

test("a timestamp the fuzzer found, past all dates, is malformed for judging and printing", () => {
  const file = join(import.meta.dirname, "../../../fuzz/corpus/nitro-timestamp-past-dates.cbor");
  const document = new Uint8Array(readFileSync(file));
  assert.deepEqual(failed({ document, at: new Date(0), expect: { maximumAge: 1 } }), ["document-form"]);
  assert.throws(() => renderNitro(document), { kind: "malformed", message: /timestamp is 8876092670073144/ });
});

// A document around what a test wants, signed by a key of ours under a certificate of the corpus.

const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });

function pcrs(count = 16, size = 48): Pairs {
  return new Pairs(Array.from({ length: count }, (_, i) => [i, Buffer.alloc(size, i + 1)] as const));
}

type Members = Readonly<Record<string, unknown>>;

function payload(change: Members = {}): Pairs {
  const certificate = Buffer.alloc(100, 1);
  const members: Record<string, unknown> = {
    module_id: "i-0-enc0",
    digest: "SHA384",
    timestamp: 1,
    pcrs: pcrs(),
    certificate,
    cabundle: [certificate],
    public_key: null,
    user_data: null,
    nonce: null,
    ...change,
  };
  return new Pairs(Object.entries(members).filter(([, value]) => value !== undefined));
}

function wrapped(content: Uint8Array, alg = -35, key: KeyObject = privateKey): Uint8Array {
  const header = cbor(new Pairs([[1, alg]]));
  const tbs = cbor(["Signature1", header, Buffer.alloc(0), content]);
  const signature = sign("sha384", tbs, {
    key: createPrivateKey(key.export({ type: "pkcs8", format: "pem" })),
    dsaEncoding: "ieee-p1363",
  });
  return cbor([header, new Pairs([]), content, signature]);
}

const SHAPES: readonly (readonly [string, Members, RegExp])[] = [
  ["no module", { module_id: undefined }, /module_id is missing/],
  ["an empty module", { module_id: "" }, /module_id is empty/],
  ["another digest", { digest: "SHA256" }, /digest is "SHA256"/],
  ["a zero time", { timestamp: 0 }, /timestamp is 0/],
  ["a negative time", { timestamp: -1 }, /timestamp is -1/],
  ["a time past all dates", { timestamp: 8.64e15 + 1 }, /timestamp is 8640000000000001/],
  ["a time in text", { timestamp: "1" }, /timestamp is "1"/],
  ["no registers", { pcrs: new Pairs([]) }, /no map with registers/],
  ["registers in a list", { pcrs: [] }, /no map with registers/],
  ["register 32", { pcrs: new Pairs([[32, Buffer.alloc(48)]]) }, /no pcr 32/],
  ["a negative register", { pcrs: new Pairs([[-1, Buffer.alloc(48)]]) }, /no pcr -1/],
  ["a register in text", { pcrs: new Pairs([["0", Buffer.alloc(48)]]) }, /no pcr 0/],
  ["a register of 32 bytes", { pcrs: pcrs(4, 32) }, /pcr 0 has no 48 bytes/],
  ["a missing register", { pcrs: pcrs(2) }, /pcr 2 is missing/],
  [
    "a register twice",
    {
      pcrs: new Pairs([
        [0, Buffer.alloc(48)],
        [0, Buffer.alloc(48)],
      ]),
    },
    /key 0 twice/,
  ],
  ["no certificate", { certificate: undefined }, /certificate is missing/],
  ["an empty certificate", { certificate: Buffer.alloc(0) }, /certificate has 0 bytes/],
  ["a large certificate", { certificate: Buffer.alloc(1025) }, /certificate has 1025 bytes/],
  ["no bundle", { cabundle: undefined }, /cabundle is missing/],
  ["an empty bundle", { cabundle: [] }, /cabundle has 0 certificates/],
  [
    "a long bundle",
    { cabundle: Array.from({ length: 17 }, () => Buffer.alloc(1)) },
    /cabundle has 17 certificates/,
  ],
  ["text in the bundle", { cabundle: ["x"] }, /cabundle 0 is no certificate/],
  ["a large public key", { public_key: Buffer.alloc(1025) }, /public_key has 1025 bytes/],
  ["an empty public key", { public_key: Buffer.alloc(0) }, /public_key has 0 bytes/],
  ["large user data", { user_data: Buffer.alloc(1025) }, /user_data has 1025 bytes/],
  ["a large nonce", { nonce: Buffer.alloc(1025) }, /nonce has 1025 bytes/],
  ["a nonce in text", { nonce: "x" }, /nonce is "x"/],
];

for (const [name, change, message] of SHAPES) {
  test(`a document with ${name} is malformed`, () => {
    assert.throws(() => parseNitroDocument(wrapped(cbor(payload(change)))), { kind: "malformed", message });
  });
}

test("a well-formed document with bytes for certificates is malformed, not trusted", () => {
  const document = wrapped(cbor(payload()));
  assert.doesNotThrow(() => parseNitroDocument(document));
  assert.doesNotThrow(() =>
    parseNitroDocument(
      cbor(new Tagged(18, [cbor(new Pairs([[1, -35]])), new Pairs([]), cbor(payload()), Buffer.alloc(96)])),
    ),
  );
  assert.deepEqual(failed({ document, at: new Date(1) }), ["certificate-form"]);
});

test("a real chain does not vouch for a document another key signed", { skip }, () => {
  const input = nitroInput(item("nitro-2022-veracruz"));
  const { cose } = parseNitroDocument(input.document);
  assert.deepEqual(failed({ ...input, document: wrapped(cose.payload) }), ["signature"]);
  assert.deepEqual(failed({ ...input, document: wrapped(cose.payload, -7) }), [
    "signature-algorithm",
    "signature",
  ]);
});
