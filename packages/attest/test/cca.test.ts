import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import { test } from "node:test";
import {
  type CcaInput,
  lifecycleState,
  parseCcaPlatformKeys,
  parseCcaToken,
  renderCca,
  verifyCca,
} from "../src/cca/index.ts";
import { cbor, Pairs, Tagged } from "./cbor-write.ts";
import { AGREES, ccaInput, corpus, failures, item, needed, skip } from "./csv-cca-nitro-corpus.ts";

const REASON: Readonly<Record<string, RegExp>> = {
  "signature-invalid": /^(platform|realm)-signature$/,
  truncated: /^token-form$/,
  "nonce-mismatch": /^realm-challenge$/,
  "untrusted-root": /^platform-signature$/,
  "lifecycle-not-secured": /^platform-lifecycle$/,
};

const failed = (input: CcaInput): readonly string[] =>
  verifyCca(input)
    .checks.filter((c) => !c.ok)
    .map((c) => c.name);

for (const of of corpus("cca")) {
  test(`${of.id}: ${of.expected.verdict}`, () => {
    const verdict = verifyCca(ccaInput(of));
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

test("a trust anchor store stands for the key it holds of this platform", { skip }, () => {
  const of = item("cca-trustee-example");
  assert.equal(verifyCca({ ...ccaInput(of), cpak: needed(of, "ta_store") }).outcome, "accepted");
  const other = verifyCca({ ...ccaInput(of), cpak: needed(item("cca-token02-es256"), "ta_store") });
  assert.equal(other.outcome, "incomplete");
  assert.match(other.missing[0] ?? "", /^cpak of instance 0107060504/);
});

test("without a platform key nothing is trusted, and the key is named", { skip }, () => {
  const { cpak: _, ...input } = ccaInput(item("cca-synthetic-ok"));
  assert.equal(verifyCca(input).outcome, "incomplete");
});

test("a token cut anywhere or with a byte behind it is malformed", { skip }, () => {
  const input = ccaInput(item("cca-tfrmm-token01"));
  for (let length = 0; length < input.token.length; length++) {
    assert.equal(verifyCca({ ...input, token: input.token.subarray(0, length) }).outcome, "malformed");
  }
  assert.deepEqual(failed({ ...input, token: Buffer.concat([input.token, Buffer.of(0)]) }), ["token-form"]);
});

test("no altered bit of a token is accepted (every 61st)", { skip }, () => {
  const { token, ...input } = ccaInput(item("cca-tfrmm-token01"));
  for (let bit = 0; bit < token.length * 8; bit += 61) {
    const altered = Uint8Array.from(token);
    altered[bit >> 3] = (altered[bit >> 3] ?? 0) ^ (1 << (bit & 7));
    assert.notEqual(verifyCca({ ...input, expect: {}, token: altered }).outcome, "accepted", `bit ${bit}`);
  }
});

test("the realm token of one platform does not go with the platform token of another", { skip }, () => {
  const parts = (id: string): readonly [Uint8Array, Uint8Array] => {
    const { platform, realm } = parseCcaToken(ccaInput(item(id)).token);
    const again = (c: typeof platform.cose): Uint8Array =>
      cbor(new Tagged(18, [c.protectedBytes, new Pairs([]), c.payload, c.signature]));
    return [again(platform.cose), again(realm.cose)];
  };
  const [platform] = parts("cca-synthetic-ok");
  const [, realm] = parts("cca-synthetic-debug-lifecycle");
  const token = cbor(
    new Tagged(
      399,
      new Pairs([
        [44234, platform],
        [44241, realm],
      ]),
    ),
  );
  const { cpak } = ccaInput(item("cca-synthetic-ok"));
  assert.ok(cpak);
  assert.deepEqual(failed({ token, cpak }), ["realm-binding"]);
});

test("prints every claim under Arm's names", { skip }, () => {
  const tree = renderCca(ccaInput(item("cca-trustee-example")).token);
  assert.deepEqual(
    tree.map((f) => f.name),
    ["cca-token", "cca-platform-token", "cca-realm-delegated-token"],
  );
});

// Tokens of our own, in both layouts and profiles.

interface Options {
  readonly platform?: readonly (readonly [number, unknown])[];
  readonly realm?: readonly (readonly [number, unknown])[];
  readonly cmw?: boolean;
  readonly rak?: "raw" | "cose";
  readonly hash?: string;
  readonly bind?: boolean;
}

const cpakPair = generateKeyPairSync("ec", { namedCurve: "P-384" });
const rakPair = generateKeyPairSync("ec", { namedCurve: "P-384" });
const CPAK = Buffer.from(cpakPair.publicKey.export({ type: "spki", format: "pem" }));

function coordinates(key: KeyObject): readonly [Buffer, Buffer] {
  const { x, y } = key.export({ format: "jwk" });
  return [Buffer.from(String(x), "base64url"), Buffer.from(String(y), "base64url")];
}

function sign1(key: KeyObject, claims: Pairs): Buffer {
  const header = cbor(new Pairs([[1, -35]]));
  const payload = cbor(claims);
  const tbs = cbor(["Signature1", header, Buffer.alloc(0), payload]);
  const signature = sign("sha384", tbs, { key, dsaEncoding: "ieee-p1363" });
  return cbor(new Tagged(18, [header, new Pairs([]), payload, signature]));
}

/** The claims with some replaced, and those whose new value is undefined left out. */
function changed(claims: readonly (readonly [number, unknown])[], by: Options["platform"] = []): Pairs {
  const map = new Map<number, unknown>(claims);
  for (const [key, value] of by) map.set(key, value);
  return new Pairs([...map].filter(([, value]) => value !== undefined));
}

function made(options: Options = {}): CcaInput {
  const [x, y] = coordinates(rakPair.publicKey);
  const raw = Buffer.concat([Buffer.of(4), x, y]);
  const cose = cbor(
    new Pairs([
      [1, 2],
      [-1, 2],
      [-2, x],
      [-3, y],
    ]),
  );
  const isCose = options.rak === "cose";
  const rak = isCose ? cose : raw;
  const hash = options.hash ?? "sha-256";
  const digest = createHash(hash.replace("-", "")).update(rak).digest();
  const platform = changed(
    [
      [265, isCose ? "tag:arm.com,2023:cca_platform#1.0.0" : "http://arm.com/CCA-SSD/1.0.0"],
      [10, options.bind === false ? Buffer.alloc(32) : digest],
      [2396, Buffer.alloc(32, 1)],
      [256, Buffer.concat([Buffer.of(1), Buffer.alloc(32, 2)])],
      [2401, Buffer.of(0xcf)],
      [2395, 0x3003],
      [
        2399,
        [
          new Pairs([
            [1, "BL1"],
            [2, Buffer.alloc(32, 3)],
            [5, Buffer.alloc(32, 4)],
          ]),
        ],
      ],
      [2402, "sha-256"],
    ],
    options.platform,
  );
  const realm = changed(
    [
      ...(isCose ? ([[265, "tag:arm.com,2023:realm#1.0.0"]] as const) : []),
      [10, Buffer.alloc(64, 5)],
      [44235, Buffer.alloc(64, 6)],
      [44236, "sha-256"],
      [44237, rak],
      [44238, Buffer.alloc(32, 7)],
      [44239, [8, 9, 10, 11].map((b) => Buffer.alloc(32, b))],
      [44240, hash],
    ],
    options.realm,
  );
  const p = sign1(cpakPair.privateKey, platform);
  const r = sign1(rakPair.privateKey, realm);
  const parts =
    options.cmw === true
      ? [
          [263, p],
          [263, r],
        ]
      : [p, r];
  const token = cbor(
    new Tagged(
      options.cmw === true ? 907 : 399,
      new Pairs([
        [44234, parts[0]],
        [44241, parts[1]],
      ]),
    ),
  );
  return { token, cpak: CPAK };
}

for (const cmw of [false, true]) {
  for (const rak of ["raw", "cose"] as const) {
    for (const hash of ["sha-256", "sha-384", "sha-512"]) {
      test(`accepts ${cmw ? "CMW" : "collection"}, ${rak} realm key, ${hash}`, () => {
        const verdict = verifyCca(made({ cmw, rak, hash }));
        assert.equal(verdict.outcome, "accepted", failures(verdict));
      });
    }
  }
}

test("accepts the profile of 2024 with its mandatory claims, and only with them", () => {
  const platform = [[265, "tag:arm.com,2024:cca_platform#2.0.0"]] as const;
  const id = Buffer.concat([Buffer.of(1), Buffer.alloc(32, 2)]);
  const realm = [
    [265, "tag:arm.com,2024:realm#2.0.0"],
    [44243, "private"],
    [256, id],
  ] as const;
  const verdict = verifyCca(made({ rak: "cose", cmw: true, platform, realm }));
  assert.equal(verdict.outcome, "accepted", failures(verdict));
  assert.deepEqual(failed(made({ rak: "cose", platform, realm: realm.slice(0, 2) })), ["token-form"]);
  assert.deepEqual(failed(made({ rak: "cose", platform, realm: [...realm, [44243, "open"]] })), [
    "token-form",
  ]);
});

test("a platform challenge that is not the digest of the realm's key binds nothing", () => {
  assert.deepEqual(failed(made({ bind: false })), ["realm-binding"]);
  assert.deepEqual(failed(made({ realm: [[44240, "md5"]] })), ["realm-binding"]);
  assert.deepEqual(failed(made({ realm: [[44240, "constructor"]] })), ["realm-binding"]);
  assert.deepEqual(failed(made({ realm: [[44240, "sha-384"]] })), ["realm-binding"]);
});

test("unknown profiles are not believed", () => {
  assert.deepEqual(failed(made({ platform: [[265, "http://arm.com/CCA-SSD/9.0.0"]] })), ["platform-profile"]);
  assert.deepEqual(failed(made({ rak: "cose", realm: [[265, "tag:arm.com,2033:realm#1.0.0"]] })), [
    "realm-profile",
  ]);
});

test("a realm key in the form of the other profile is malformed", () => {
  assert.deepEqual(failed(made({ rak: "raw", realm: [[265, "tag:arm.com,2023:realm#1.0.0"]] })), [
    "realm-key-form",
  ]);
  assert.deepEqual(failed(made({ rak: "cose", realm: [[265, undefined]] })), ["realm-key-form"]);
});

test("only the secured lifecycle is accepted; debug only when it is allowed", () => {
  const states = [0x0000, 0x1000, 0x2000, 0x3000, 0x30ff, 0x4001, 0x5000, 0x6000, 0x3100, 0x7000, 0xffff];
  assert.deepEqual(states.map(lifecycleState), [
    "unknown",
    "assembly-and-test",
    "cca-platform-rot-provisioning",
    "secured",
    "secured",
    "non-cca-platform-debug",
    "recoverable-cca-platform-debug",
    "decommissioned",
    "invalid",
    "invalid",
    "invalid",
  ]);
  for (const value of states) {
    const input = made({ platform: [[2395, value]] });
    const secured = value === 0x3000 || value === 0x30ff;
    const debug = value === 0x4001 || value === 0x5000;
    assert.equal(verifyCca(input).outcome, secured ? "accepted" : "refused");
    assert.equal(
      verifyCca({ ...input, expect: { allowDebug: true } }).outcome,
      secured || debug ? "accepted" : "refused",
    );
  }
});

test("measurements, identifiers and components are refusals when they are not as expected", () => {
  const input = made();
  const check = (expect: NonNullable<CcaInput["expect"]>, name: string): void => {
    const verdict = verifyCca({ ...input, expect });
    assert.equal(verdict.outcome, "refused");
    assert.deepEqual(
      verdict.checks.filter((c) => !c.ok).map((c) => c.name),
      [name],
    );
  };
  const other = Buffer.alloc(32, 99);
  check({ initialMeasurements: [other] }, "realm-initial-measurement");
  check({ extensibleMeasurements: { 3: other } }, "realm-extensible-measurement-3");
  check({ personalizationValue: Buffer.alloc(64) }, "realm-personalization-value");
  check({ implementationIds: [other] }, "platform-implementation-id");
  check({ instanceIds: [Buffer.alloc(33)] }, "platform-instance-id");
  check({ configs: [] }, "platform-config");
  check({ swComponents: [] }, "platform-sw-components");
  check({ swComponents: [{ measurement: Buffer.alloc(32, 3), signerId: other }] }, "platform-sw-components");
  const good = {
    challenge: Buffer.alloc(64, 5),
    initialMeasurements: [other, Buffer.alloc(32, 7)],
    extensibleMeasurements: { 0: Buffer.alloc(32, 8) },
    swComponents: [{ type: "BL1", measurement: Buffer.alloc(32, 3), signerId: Buffer.alloc(32, 4) }],
  };
  assert.equal(verifyCca({ ...input, expect: good }).outcome, "accepted");
  assert.deepEqual(failed({ ...input, expect: { challenge: Buffer.alloc(65, 5) } }), ["realm-challenge"]);
});

const PLATFORM_SHAPES: readonly (readonly [readonly (readonly [number, unknown])[], RegExp])[] = [
  [[[265, undefined]], /cca-platform-profile is missing/],
  [[[10, Buffer.alloc(31)]], /cca-platform-challenge has 31 bytes/],
  [[[10, [Buffer.alloc(32)]]], /cca-platform-challenge is \[/],
  [[[2396, Buffer.alloc(33)]], /cca-platform-implementation-id has 33 bytes/],
  [[[256, Buffer.alloc(33)]], /no UEID of type RAND/],
  [[[2395, 0x10000]], /cca-platform-lifecycle is 65536/],
  [[[2395, "secured"]], /cca-platform-lifecycle is "secured"/],
  [[[2399, []]], /0 software components/],
  [[[2399, [new Pairs([[2, Buffer.alloc(32)]])]]], /signer id is missing/],
  [
    [
      [
        2399,
        [
          new Pairs([
            [2, Buffer.alloc(20)],
            [5, Buffer.alloc(32)],
          ]),
        ],
      ],
    ],
    /measurement value has 20 bytes/,
  ],
  [[[2402, undefined]], /cca-platform-hash-algo-id is missing/],
];

const REALM_SHAPES: readonly (readonly [readonly (readonly [number, unknown])[], RegExp])[] = [
  [[[10, Buffer.alloc(63)]], /cca-realm-challenge has 63 bytes/],
  [[[44235, undefined]], /cca-realm-personalization-value is missing/],
  [[[44238, Buffer.alloc(20)]], /cca-realm-initial-measurement has 20 bytes/],
  [[[44239, [Buffer.alloc(32)]]], /1 extensible measurements/],
  [[[44239, ["a", "b", "c", "d"]]], /extensible measurement 0 is "a"/],
  [[[44237, undefined]], /cca-realm-public-key is missing/],
  [[[44240, 1]], /cca-realm-public-key-hash-algo-id is 1/],
];

test("claims of a wrong type, size or absence are malformed, each by name", () => {
  for (const [platform, message] of PLATFORM_SHAPES) {
    assert.throws(() => parseCcaToken(made({ platform }).token), { kind: "malformed", message });
  }
  for (const [realm, message] of REALM_SHAPES) {
    assert.throws(() => parseCcaToken(made({ realm }).token), { kind: "malformed", message });
  }
});

test("claims nobody knows are passed over", () => {
  assert.equal(verifyCca(made({ platform: [[75008, "x"]], realm: [[75009, 1]] })).outcome, "accepted");
});

test("a collection of another shape is malformed", () => {
  const inner = Buffer.alloc(4);
  const shapes: readonly unknown[] = [
    new Pairs([
      [44234, inner],
      [44241, inner],
    ]),
    new Tagged(400, new Pairs([])),
    new Tagged(399, []),
    new Tagged(399, new Pairs([[44234, inner]])),
    new Tagged(
      399,
      new Pairs([
        [44234, inner],
        [44241, inner],
        [1, inner],
      ]),
    ),
    new Tagged(
      399,
      new Pairs([
        [44234, inner],
        [44234, inner],
        [44241, inner],
      ]),
    ),
    new Tagged(
      399,
      new Pairs([
        [44234, [263, inner]],
        [44241, [263, inner]],
      ]),
    ),
    new Tagged(
      907,
      new Pairs([
        [44234, inner],
        [44241, inner],
      ]),
    ),
    new Tagged(
      907,
      new Pairs([
        [44234, [264, inner]],
        [44241, [263, inner]],
      ]),
    ),
  ];
  for (const shape of shapes) assert.deepEqual(failed({ token: cbor(shape), cpak: CPAK }), ["token-form"]);
});

test("reads platform keys as JWK, PEM and DER, and refuses everything else", () => {
  const jwk = cpakPair.publicKey.export({ format: "jwk" });
  const text = (value: unknown): Uint8Array => Buffer.from(JSON.stringify(value));
  const { token } = made();
  for (const cpak of [text(jwk), CPAK, cpakPair.publicKey.export({ type: "spki", format: "der" })]) {
    assert.equal(verifyCca({ token, cpak: new Uint8Array(cpak) }).outcome, "accepted");
  }
  const wrong: readonly Uint8Array[] = [
    new Uint8Array(),
    text({}),
    text(null),
    text({ ...jwk, kty: "RSA" }),
    text({ ...jwk, crv: "secp256k1" }),
    text({ ...jwk, x: jwk.y }),
    text({ ...jwk, y: undefined }),
    text(cpakPair.privateKey.export({ format: "jwk" })),
    text([{ pkey: jwk }]),
    text([{ pkey: jwk, "instance-id": "00", "implementation-id": "00" }]),
    Buffer.concat([CPAK, CPAK]),
    Buffer.from(JSON.stringify(jwk).replace('"kty"', '"kty":"EC","kty"')),
  ];
  for (const cpak of wrong) assert.throws(() => parseCcaPlatformKeys(cpak), { kind: "malformed" });
});
