import assert from "node:assert/strict";
import { test } from "node:test";
import {
  type Certificate,
  type ChainRequest,
  CheckList,
  checkDer,
  parseCertificate,
  parseCertificates,
  parseCrl,
  parsePem,
  verifyChain,
} from "@shelter/attest";
import { certificate, crl, der, extension, int, type Signer, signer } from "./snp-forge.ts";

const AT = new Date("2026-06-01T00:00:00Z");
const FROM = new Date("2026-05-01T00:00:00Z");
const TO = new Date("2026-07-01T00:00:00Z");
const root = signer("root", "P-256");
const middle = signer("middle", "P-256");
const leaf = signer("leaf", "P-256");

const parse = (bytes: Uint8Array): Certificate => parseCertificate(bytes);
const ROOT = parse(certificate(root, root, { ca: true, serial: 1 }));
const MIDDLE = parse(certificate(middle, root, { ca: true, serial: 2 }));
const LEAF = parse(certificate(leaf, middle, { serial: 3 }));

function usage(bits: number): Uint8Array {
  return extension("2.5.29.15", der(0x03, Uint8Array.of(0, bits)), true);
}

function judge(change: Partial<ChainRequest> = {}): { trusted: boolean; failed: string[]; details: string } {
  const checks = new CheckList();
  const { trusted } = verifyChain({
    leaf: LEAF,
    intermediates: [MIDDLE],
    anchors: [ROOT],
    at: AT,
    checks,
    label: "x",
    ...change,
  });
  const failed = checks.checks.filter((c) => !c.ok);
  assert.equal(trusted, failed.length === 0);
  assert.ok(checks.checks.length > 0);
  return { trusted, failed: failed.map((c) => c.name), details: failed.map((c) => c.detail).join("; ") };
}

test("accepts a chain to a pinned anchor, whatever the order, duplicates and strangers beside it", () => {
  assert.equal(judge().trusted, true);
  const stranger = signer("stranger", "P-256");
  const other = parse(certificate(stranger, stranger, { ca: true }));
  assert.equal(judge({ intermediates: [ROOT, other, MIDDLE, LEAF, MIDDLE] }).trusted, true);
  assert.equal(judge({ leaf: ROOT }).trusted, true);
});

test("refuses a chain that ends at a root which only looks like the anchor", () => {
  const fake = { ...signer("root", "P-384") };
  const fakeRoot = parse(certificate(fake, fake, { ca: true, serial: 1 }));
  const fakeMiddle = parse(certificate(middle, fake, { ca: true }));
  const result = judge({ intermediates: [fakeMiddle, fakeRoot] });
  assert.deepEqual(result.failed, ["x-anchor"]);
  assert.equal(result.details, "the chain ends at CN=root, which is not a pinned anchor");
  // The genuine one among the look-alikes still leads home.
  assert.equal(judge({ intermediates: [fakeMiddle, fakeRoot, MIDDLE] }).trusted, true);
});

test("refuses a chain with a link missing or signed by a namesake, and says which", () => {
  assert.equal(judge({ intermediates: [] }).details, "no certificate of CN=middle is among those given");
  const namesake = signer("middle", "P-256");
  const look = parse(certificate(namesake, root, { ca: true }));
  const result = judge({ intermediates: [look] });
  assert.deepEqual(result.failed, ["x-signature"]);
  assert.equal(result.details, "CN=leaf is not signed by the given CN=middle");
});

test("refuses each certificate of the chain before and after its time", () => {
  assert.deepEqual(judge({ at: new Date("2024-12-31T00:00:00Z") }).failed, ["x-validity"]);
  assert.deepEqual(judge({ at: new Date("2035-01-02T00:00:00Z") }).failed, ["x-validity"]);
  const short = parse(certificate(leaf, middle, { notAfter: FROM }));
  assert.match(judge({ leaf: short }).details, /^CN=leaf was valid until 2026-05-01/);
});

test("refuses an issuer that is no certificate authority or may not sign certificates", () => {
  const plain = parse(certificate(middle, root));
  assert.deepEqual(judge({ intermediates: [plain] }).failed, ["x-ca"]);
  const noSign = parse(certificate(middle, root, { ca: true, extensions: [usage(0x80)] }));
  assert.equal(judge({ intermediates: [noSign] }).details, "CN=middle may not sign certificates");
  const maySign = parse(certificate(middle, root, { ca: true, extensions: [usage(0x04)] }));
  assert.equal(judge({ intermediates: [maySign] }).trusted, true);
});

test("refuses a path longer than an issuer allows", () => {
  const constraints = (length: number): Uint8Array =>
    extension("2.5.29.19", der(0x30, der(0x01, Uint8Array.of(0xff)), int(length)), true);
  const zero = parse(certificate(root, root, { extensions: [constraints(0)] }));
  const one = parse(certificate(root, root, { extensions: [constraints(1)] }));
  assert.equal(judge({ anchors: [one] }).trusted, true);
  assert.equal(
    judge({ anchors: [zero] }).details,
    "CN=root allows 0 certificate authorities below it, there are 1",
  );
});

test("refuses critical extensions it does not know, unless the caller does", () => {
  const odd = parse(certificate(leaf, middle, { extensions: [extension("1.2.3.4", int(1), true)] }));
  assert.deepEqual(judge({ leaf: odd }).failed, ["x-critical-extensions"]);
  assert.equal(judge({ leaf: odd, knownCritical: ["1.2.3.4"] }).trusted, true);
  const harmless = parse(certificate(leaf, middle, { extensions: [extension("1.2.3.4", int(1))] }));
  assert.equal(judge({ leaf: harmless }).trusted, true);
});

test("refuses what a CRL revokes, a CRL out of its time, forged or missing", () => {
  const list = (by: Signer, serials: readonly number[], from = FROM, to = TO) =>
    parseCrl(crl(by, serials, from, to));
  const both = [list(root, []), list(middle, [])];
  assert.equal(judge({ crls: both, requireCrls: "all" }).trusted, true);
  assert.deepEqual(judge({ crls: [list(middle, [9, 3])] }).failed, ["x-revocation"]);
  assert.deepEqual(judge({ crls: [list(root, [2])] }).failed, ["x-revocation"]);
  const old = list(middle, [], new Date("2026-01-01T00:00:00Z"), new Date("2026-02-01T00:00:00Z"));
  assert.deepEqual(judge({ crls: [old] }).failed, ["x-crl-validity"]);
  // A list that is over still knows what it revoked.
  const oldRevoking = list(middle, [3], new Date("2026-01-01T00:00:00Z"), new Date("2026-02-01T00:00:00Z"));
  assert.deepEqual(judge({ crls: [oldRevoking] }).failed, ["x-crl-validity", "x-revocation"]);
  assert.deepEqual(judge({ crls: [list(signer("middle", "P-256"), [])] }).failed, ["x-crl-signature"]);
  assert.deepEqual(judge({ crls: [list(root, [])], requireCrls: "all" }).failed, ["collateral"]);
  assert.equal(judge({ crls: [list(root, [])], requireCrls: "intermediates" }).trusted, true);
});

test("accepts no certificate with any single bit of its signed part or signature changed", () => {
  const good = LEAF.raw;
  const tbsAt = Buffer.from(good).indexOf(LEAF.tbs);
  const signatureAt = Buffer.from(good).indexOf(LEAF.signature);
  const signed: number[] = [];
  for (let i = tbsAt; i < tbsAt + LEAF.tbs.length; i++) signed.push(i);
  for (let i = signatureAt; i < good.length; i++) signed.push(i);
  for (const i of signed) {
    for (let bit = 0; bit < 8; bit++) {
      const bytes = Uint8Array.from(good);
      bytes[i] = (bytes[i] ?? 0) ^ (1 << bit);
      let changed: Certificate;
      try {
        changed = parse(bytes);
      } catch {
        continue;
      }
      assert.equal(judge({ leaf: changed }).trusted, false, `byte ${i} bit ${bit}`);
    }
  }
});

test("refuses a certificate cut at any length and one with a byte behind it", () => {
  for (let i = 0; i < LEAF.raw.length; i++)
    assert.throws(() => parse(LEAF.raw.slice(0, i)), { kind: "malformed" });
  assert.throws(() => parse(Buffer.concat([LEAF.raw, Uint8Array.of(5, 0)])), /2 bytes too many/);
});

test("refuses DER that is not canonical anywhere", () => {
  for (const [bytes, message] of [
    [[0x30, 0x80, 0x00, 0x00], /indefinite length/],
    [[0x30, 0x81, 0x01, 0x00], /shortest form/],
    [[0x04, 0x82, 0x00, 0x01, 0x00], /shortest form/],
    [[0x04, 0x85, 0, 0, 0, 0, 1, 0], /length of 5 bytes/],
    [[0x02, 0x02, 0x00, 0x01], /shortest form/],
    [[0x02, 0x02, 0xff, 0x80], /shortest form/],
    [[0x02, 0x00], /empty integer/],
    [[0x01, 0x01, 0x01], /neither 00 nor ff/],
    [[0x05, 0x01, 0x00], /null with content/],
    [[0x03, 0x02, 0x01, 0x01], /bits set behind its end/],
    [[0x03, 0x01, 0x08], /unused bits/],
    [[0x06, 0x02, 0x80, 0x01], /shortest form/],
    [[0x06, 0x02, 0x2a, 0x81], /ends inside an arc/],
    [[0x1f, 0x01, 0x00], /tag of several bytes/],
    [[0x24, 0x02, 0x04, 0x00], /constructed form/],
    [[0x10, 0x00], /primitive form/],
    [[0x30, 0x03, 0x04, 0x02, 0x00], /need 2 bytes, have 1/],
  ] as const) {
    assert.throws(() => checkDer(Uint8Array.from(bytes), "it"), message, Buffer.from(bytes).toString("hex"));
  }
  let deep: Uint8Array = new Uint8Array();
  for (let i = 0; i < 64; i++) deep = der(0x30, deep);
  assert.throws(() => checkDer(deep, "it"), /nested deeper/);
});

test("refuses an extension given twice and two signature algorithms", () => {
  const twice = certificate(leaf, middle, {
    extensions: [extension("1.2.3", int(1)), extension("1.2.3", int(2))],
  });
  assert.throws(() => parse(twice), {
    code: "CERTIFICATE_MALFORMED",
    message: "certificate: extension 1.2.3 twice",
  });
  const bytes = Uint8Array.from(LEAF.raw);
  const outer = Buffer.from(bytes).lastIndexOf(Buffer.from("2a8648ce3d040302", "hex"));
  bytes[outer + 7] = 3;
  assert.throws(() => parse(bytes), /names two different signature algorithms/);
});

test("reads PEM with text around it, and refuses other blocks and blocks that do not end", () => {
  const block = `-----BEGIN CERTIFICATE-----\n${Buffer.from(LEAF.raw).toString("base64")}\n-----END CERTIFICATE-----\n`;
  assert.equal(parsePem(`subject: leaf\n${block}\n${block}`).length, 2);
  assert.equal(parseCertificates(LEAF.raw).length, 1);
  assert.throws(() => parsePem(block.slice(0, -20)), /a block that does not end/);
  assert.throws(() => parsePem(block.replaceAll("CERTIFICATE", "PRIVATE KEY")), /have PRIVATE KEY/);
  assert.throws(() => parsePem(block.replace("MII", "M*I")), { code: "PEM_MALFORMED" });
});
