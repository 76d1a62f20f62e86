import assert from "node:assert/strict";
import { createHash, generateKeyPairSync, sign } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  type AttestationKeyTrust,
  activationProof,
  type Certificate,
  endorsementKey,
  makeCredential,
  parseCertificate,
  parsePcrBanks,
  parseTpm2bPublic,
  parseTpmEvidence,
  parseTpmQuote,
  parseTpmSignature,
  publicKeyOf,
  startActivation,
  type TpmEvidence,
  type Verdict,
  verifyTpmEvidence,
  verifyTpmSignature,
} from "@shelter/attest";
import { fromHex, SecretBytes, toHex } from "@shelter/base";

/** What swtpm and tpm2-tools made: the oracle for everything here. */
const SWTPM = JSON.parse(readFileSync(join(import.meta.dirname, "fixtures/swtpm.json"), "utf8")) as {
  nonce: string;
  ekRsaCertificate: string;
  ekP384Certificate: string;
  issuer: string;
  root: string;
  ekRsa: string;
  ekP256: string;
  ekP384: string;
  akRsa: string;
  akRsaName: string;
  akP256: string;
  credentialRsa: { credentialBlob: string; encryptedSecret: string };
  credentialP256: { credentialBlob: string; encryptedSecret: string };
  credentialP384: { credentialBlob: string; encryptedSecret: string };
  quotes: { name: string; ak: string; message: string; signature: string }[];
};

const AT = new Date("2026-12-01T00:00:00Z");
const bytes = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, "base64"));
const certificate = (text: string): Certificate => parseCertificate(bytes(text));
const ROOT = certificate(SWTPM.root);
const ISSUER = certificate(SWTPM.issuer);
const REPORT_DATA = new Uint8Array([...fromHex(SWTPM.nonce), ...new Uint8Array(16).fill(7)]);
const SECRET = new SecretBytes(new Uint8Array(32).fill(3));
const PCRS = new Map([
  ["sha256" as const, new Map(Array.from({ length: 24 }, (_, i) => [i, new Uint8Array(32)]))],
]);

function evidence(change: Partial<TpmEvidence> = {}, which = "rsassa"): TpmEvidence {
  const quote = SWTPM.quotes.find((q) => q.name === which);
  assert.ok(quote);
  const area = parseTpm2bPublic(bytes(quote.ak));
  return {
    quote: parseTpmQuote(bytes(quote.message)),
    signature: parseTpmSignature(bytes(quote.signature)),
    akPublic: publicKeyOf(area),
    akTpmPublic: area,
    pcrs: PCRS,
    ekCertificate: certificate(SWTPM.ekRsaCertificate),
    activation: activationProof(SECRET, REPORT_DATA),
    ...change,
  };
}

function trust(change: Partial<AttestationKeyTrust & { by: "endorsement" }> = {}): AttestationKeyTrust {
  return {
    by: "endorsement",
    roots: [ROOT],
    intermediates: [ISSUER],
    secret: SECRET,
    ekCertificate: bytes(SWTPM.ekRsaCertificate),
    akName: fromHex(SWTPM.akRsaName),
    ...change,
  };
}

function judge(change: Partial<Parameters<typeof verifyTpmEvidence>[0]> = {}): Verdict {
  return verifyTpmEvidence({
    evidence: evidence(),
    reportData: REPORT_DATA,
    trust: trust(),
    at: AT,
    ...change,
  });
}

function failed(verdict: Verdict): string[] {
  return verdict.checks.filter((c) => !c.ok).map((c) => c.name);
}

/** The randomness the fixture's credentials were made with. */
function recorded(label: string): (count: number) => Uint8Array {
  let n = 0;
  return (count) => {
    const out = Buffer.alloc(count);
    for (let i = 0; i < count; i += 32) createHash("sha256").update(`${label} ${n++}`).digest().copy(out, i);
    return new Uint8Array(out);
  };
}

for (const [name, ek, ak, credential, label] of [
  ["RSA-2048", SWTPM.ekRsa, SWTPM.akRsa, SWTPM.credentialRsa, "rsa"],
  ["P-256", SWTPM.ekP256, SWTPM.akP256, SWTPM.credentialP256, "ecc"],
  ["P-384", SWTPM.ekP384, SWTPM.akRsa, SWTPM.credentialP384, "p384"],
] as const) {
  test(`makes the credential for a ${name} endorsement key that a TPM opened`, () => {
    const area = parseTpm2bPublic(bytes(ek));
    const key = endorsementKey(publicKeyOf(area));
    assert.equal(key.nameAlg, area.nameAlg);
    assert.equal(key.aesBits, area.symmetric?.keyBits);
    const secret = createHash("sha256").update("secret").digest();
    const made = makeCredential(key, parseTpm2bPublic(bytes(ak)).name, secret, recorded(label));
    assert.equal(toHex(made.credentialBlob), credential.credentialBlob);
    assert.equal(toHex(made.encryptedSecret), credential.encryptedSecret);
  });
}

test("computes the name of a public area as tpm2_readpublic does", () => {
  assert.equal(toHex(parseTpm2bPublic(bytes(SWTPM.akRsa)).name), SWTPM.akRsaName);
});

test("starts an activation from an EK certificate and refuses a secret a key's hash cannot hold", () => {
  const started = startActivation(bytes(SWTPM.ekP384Certificate), bytes(SWTPM.akRsa), recorded("a"));
  assert.equal(toHex(started.akName), SWTPM.akRsaName);
  assert.equal(started.secret.reveal().length, 32);
  const key = endorsementKey(publicKeyOf(parseTpm2bPublic(bytes(SWTPM.ekRsa))));
  assert.throws(() => makeCredential(key, started.akName, new Uint8Array(33), recorded("b")), {
    code: "TPM_UNSUPPORTED",
    message: "a secret of 33 bytes, 1 to 32 fit",
  });
});

test("accepts evidence of an endorsed TPM with every binding in place", () => {
  const verdict = judge();
  assert.deepEqual(failed(verdict), []);
  assert.equal(verdict.outcome, "accepted");
  assert.deepEqual(verdict.claims["tpm"], {
    manufacturer: "id:00001014",
    model: "swtpm",
    version: "id:20191023",
  });
});

for (const { name } of SWTPM.quotes) {
  test(`accepts a ${name} quote and refuses it with any bit changed`, () => {
    const good = evidence({}, name);
    const request = { reportData: REPORT_DATA, trust: { by: "caller" as const }, at: AT };
    assert.equal(verifyTpmEvidence({ ...request, evidence: good }).outcome, "accepted");
    for (let i = 0; i < good.quote.raw.length * 8; i++) {
      const raw = Uint8Array.from(good.quote.raw);
      raw[i >> 3] = (raw[i >> 3] ?? 0) ^ (1 << (i & 7));
      assert.equal(verifyTpmSignature(good.akPublic, good.signature, raw), false, `bit ${i}`);
    }
  });
}

test("refuses another nonce, another report data, other PCRs and PCRs not given", () => {
  const other = Uint8Array.from(REPORT_DATA, (b) => b ^ 1);
  assert.deepEqual(failed(judge({ reportData: other })), ["ak-activation", "quote-nonce"]);
  const tail = Uint8Array.from(REPORT_DATA);
  tail[47] = 9; // beyond what the nonce covers: only the activation binds it
  assert.deepEqual(failed(judge({ reportData: tail })), ["ak-activation"]);
  const values = new Map(PCRS.get("sha256"));
  values.set(4, new Uint8Array(32).fill(1));
  assert.deepEqual(failed(judge({ evidence: evidence({ pcrs: new Map([["sha256", values]]) }) })), [
    "quote-pcr-digest",
  ]);
  values.delete(4);
  assert.deepEqual(failed(judge({ evidence: evidence({ pcrs: new Map([["sha256", values]]) }) })), [
    "quote-pcr-digest",
  ]);
});

test("refuses a key that is not restricted, not made in its TPM, or not the one activated", () => {
  const raw = bytes(SWTPM.akRsa);
  raw[7] = (raw[7] ?? 0) & ~0x01; // TPMA_OBJECT bit 16
  const area = parseTpm2bPublic(raw);
  assert.deepEqual(failed(judge({ evidence: evidence({ akTpmPublic: area }) })), [
    "ak-attributes",
    "ak-name",
  ]);
  const check = judge({ evidence: evidence({ akTpmPublic: area }) }).checks.find(
    (c) => c.name === "ak-attributes",
  );
  assert.equal(check?.detail, "the attestation key lacks restricted");
  const foreign = evidence({ akTpmPublic: parseTpm2bPublic(bytes(SWTPM.akP256)) });
  assert.deepEqual(failed(judge({ evidence: foreign })), ["ak-public", "ak-name"]);
  assert.deepEqual(failed(judge({ evidence: evidence({ activation: new Uint8Array(32) }) })), [
    "ak-activation",
  ]);
  const { activation: _, ...without } = evidence();
  assert.deepEqual(failed(judge({ evidence: without })), ["ak-activation"]);
});

test("refuses an endorsement that does not lead to a pinned root, is another's, or out of its time", () => {
  assert.deepEqual(failed(judge({ trust: trust({ roots: [] }) })), ["ek-anchor"]);
  assert.deepEqual(failed(judge({ trust: trust({ intermediates: [] }) })), ["ek-anchor"]);
  assert.deepEqual(failed(judge({ trust: trust({ ekCertificate: bytes(SWTPM.ekP384Certificate) }) })), [
    "ek-certificate",
  ]);
  const early = judge({ at: new Date("2020-01-01T00:00:00Z") });
  assert.deepEqual(failed(early), ["ek-validity"]);
  assert.equal(early.outcome, "expired");
  // A CA's certificate is no TPM's.
  const ca = judge({
    evidence: evidence({ ekCertificate: ISSUER }),
    trust: trust({ ekCertificate: ISSUER.raw }),
  });
  assert.deepEqual(failed(ca), ["ek-key-usage", "ek-extended-key-usage", "ek-not-a-ca", "ek-identity"]);
});

test("compares PCRs with every allowed state and says which differ in words", () => {
  const zero = "00".repeat(32);
  const fits = [{ pcrs: { "4": "11".repeat(32) } }, { pcrs: { "0": zero, "4": zero } }];
  assert.equal(judge({ expectations: { references: fits } }).outcome, "accepted");
  const wrong = judge({ expectations: { references: [{ pcrs: { "0": zero, "4": "11".repeat(32) } }] } });
  assert.equal(wrong.outcome, "refused");
  const check = wrong.checks.find((c) => c.name === "pcr-reference-4");
  assert.equal(check?.claimed, zero);
  assert.equal(
    check?.detail,
    "PCR 4 (boot loader and kernel) differs: without an event log nobody can say what",
  );
  // What was not quoted cannot fit, and nothing to compare with is no acceptance.
  assert.deepEqual(failed(judge({ expectations: { references: [{ pcrs: { "9": zero } }] } })), [
    "pcr-reference-9",
  ]);
  assert.deepEqual(failed(judge({ expectations: { references: [] } })), ["pcr-reference"]);
  assert.equal(judge({ expectations: { references: [{ pcrs: {} }] } }).outcome, "refused");
});

test("refuses SHA-1 signatures, foreign keys, wrong curves and zero or oversized numbers", () => {
  const { akPublic, quote } = evidence({}, "ecdsa");
  const signature = parseTpmSignature(bytes(SWTPM.quotes[1]?.signature ?? ""));
  assert.equal(signature.kind, "ecdsa");
  if (signature.kind !== "ecdsa") return;
  assert.equal(verifyTpmSignature(akPublic, signature, quote.raw), true);
  const order = fromHex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
  const zero = new Uint8Array(32);
  for (const [r, s] of [
    [zero, signature.s],
    [signature.r, zero],
    [signature.r, order],
    [order, signature.s],
  ] as const) {
    assert.equal(verifyTpmSignature(akPublic, { ...signature, r, s }, quote.raw), false);
  }
  const long = new Uint8Array([1, ...signature.s]);
  assert.equal(verifyTpmSignature(akPublic, { ...signature, s: long }, quote.raw), false);
  assert.equal(verifyTpmSignature(akPublic, { ...signature, hash: "sha1" }, quote.raw), false);
  const k1 = generateKeyPairSync("ec", { namedCurve: "secp256k1" });
  const by = sign("sha256", quote.raw, { key: k1.privateKey, dsaEncoding: "ieee-p1363" });
  const foreign = { ...signature, r: by.subarray(0, 32), s: by.subarray(32) };
  assert.equal(verifyTpmSignature(k1.publicKey, foreign, quote.raw), false);
  const small = generateKeyPairSync("rsa", { modulusLength: 1024 });
  const weak = {
    kind: "rsassa",
    hash: "sha256",
    signature: sign("sha256", quote.raw, small.privateKey),
  } as const;
  assert.equal(verifyTpmSignature(small.publicKey, weak, quote.raw), false);
});

test("reads PCR values of several banks or of one, and refuses what is neither", () => {
  const value = "ab".repeat(32);
  for (const json of [{ sha256: { 4: value } }, { 4: value }]) {
    assert.equal(toHex(parsePcrBanks(json).get("sha256")?.get(4) ?? new Uint8Array()), value);
  }
  for (const json of [
    [],
    { md5: { 4: value } },
    { sha256: { 32: value } },
    { sha256: { 4: "zz" } },
    { 4: value, x: value },
  ]) {
    assert.throws(() => parsePcrBanks(json), { code: "TPM_EVIDENCE_MALFORMED" });
  }
});

test("parses the evidence of docs/formats.md and names what is wrong with others", () => {
  const quote = SWTPM.quotes[0];
  assert.ok(quote);
  const spki = publicKeyOf(parseTpm2bPublic(bytes(quote.ak))).export({ format: "der", type: "spki" });
  const json = {
    tpm_quote: {
      signature: quote.signature,
      message: quote.message,
      pcrs: Array.from({ length: 24 }, () => "00".repeat(32)),
    },
    ak_public: spki.toString("base64"),
    ak_tpm_public: quote.ak,
    ek_certificate: SWTPM.ekRsaCertificate,
    activation: Buffer.from(activationProof(SECRET, REPORT_DATA)).toString("base64"),
  };
  assert.equal(judge({ evidence: parseTpmEvidence(json) }).outcome, "accepted");
  const { ak_public: _, ...rest } = json;
  assert.throws(() => parseTpmEvidence(rest), { message: "tpm evidence: ak_public is missing" });
  assert.throws(() => parseTpmEvidence({ ...json, ak_tpm_public: "?" }), {
    message: "tpm evidence: ak_tpm_public is not base64",
  });
  assert.throws(() => parseTpmEvidence({ ...json, tpm_quote: { ...json.tpm_quote, pcrs: ["00"] } }), {
    message: "tpm evidence: pcrs is not a list of 24 values",
  });
  assert.throws(() => parseTpmQuote(bytes(quote.message).subarray(0, 60)), { code: "BYTES_TRUNCATED" });
});
