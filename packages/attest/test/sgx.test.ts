import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  DcapCollateral,
  type DcapFiles,
  fieldLines,
  INTEL_SGX_ROOT_CA,
  parseCertificates,
  parseTcbInfo,
  renderQuote,
  type SgxExpectations,
  type SgxInput,
  type Verdict,
  verifySgx,
} from "@shelter/attest";
import { fromHex } from "@shelter/base";
import {
  type Forged,
  forge,
  type Loose,
  level,
  pckCertificate,
  pem,
  platformCertificate,
  rootCertificate,
} from "./sgx-forge.ts";
import {
  type CorpusItem,
  corpusAbsent,
  corpusFile,
  corpusItem,
  corpusItems,
  corpusVerdict,
  present,
} from "./snp-corpus.ts";
import { certificate, signer } from "./snp-forge.ts";

const skip = corpusAbsent ?? false;

function inputOf(item: CorpusItem): Omit<SgxInput, "collateral"> & { readonly collateral: DcapFiles } {
  const file = (role: string): Uint8Array | undefined => corpusFile(item, role);
  const quote = file("quote");
  assert.ok(quote);
  return {
    quote,
    at: new Date(item.verify_at),
    ...present({ root: file("root") }),
    collateral: present({
      tcbInfo: file("tcb_info"),
      qeIdentity: file("qe_identity"),
      tcbInfoChain: file("tcb_info_chain"),
      qeIdentityChain: file("qe_identity_chain"),
      pckChain: file("pck_chain"),
      pckCrl: file("pck_crl"),
      pckCrlChain: file("pck_crl_chain"),
      rootCrl: file("root_crl"),
    }),
    expect: { reportData: fromHex(item.inputs?.expected_report_data ?? "") },
  };
}

function failures(verdict: Verdict): string {
  return verdict.checks
    .filter((c) => !c.ok)
    .map((c) => c.name)
    .join(" ");
}

function judge(forged: Forged, expect: SgxExpectations = {}, more: Partial<SgxInput> = {}): Verdict {
  return verifySgx({ ...forged, expect, ...more });
}

describe("sgx: the evidence corpus", { skip }, () => {
  for (const item of corpusItems("sgx")) {
    it(`judges ${item.id} as ${item.expected.verdict}`, () => {
      const verdict = verifySgx(inputOf(item));
      assert.equal(corpusVerdict(verdict.outcome), item.expected.verdict, failures(verdict));
      const { fields, tcb_status, tcb_detail, verdict: expected } = item.expected;
      for (const [key, value] of Object.entries(fields ?? {}))
        assert.deepEqual(verdict.claims[key], value, key);
      if (tcb_status !== undefined) assert.equal(verdict.claims["tcb_status"], tcb_status);
      if (tcb_detail !== undefined) assert.deepEqual(verdict.claims["tcb_detail"], tcb_detail);
      if (expected !== "invalid")
        assert.equal(verdict.checks.find((c) => c.name === "quote-signature")?.ok, true);
    });
  }

  it("has Intel's root built in", () => {
    const root = corpusItem("tdx", "intel-root", "trust-root");
    const published = parseCertificates(corpusFile(root, "root") ?? new Uint8Array())[0];
    assert.deepEqual(parseCertificates(Buffer.from(INTEL_SGX_ROOT_CA))[0]?.raw, published?.raw);
  });

  it("accepts genuine evidence once its TCB status is allowed, without a pinned root", () => {
    const { root: _, ...input } = inputOf(corpusItem("sgx", "sgx-v3-00606a-swhardening"));
    assert.equal(verifySgx(input).outcome, "refused");
    assert.equal(
      verifySgx({ ...input, expect: { allowTcbStatuses: ["SWHardeningNeeded"] } }).outcome,
      "accepted",
    );
    assert.equal(verifySgx({ ...input, expect: { allowTcbStatuses: ["OutOfDate"] } }).outcome, "refused");
  });

  it("takes a PCK chain from beside the quote, under the root that is pinned", () => {
    // Intel's own sample: a quote that names its platform only, under a root made for testing.
    const item = corpusItem("sgx", "sgx-v3-intel-sample-pinned-root");
    const { collateral, ...input } = inputOf(item);
    const chain = parseCertificates(corpusFile(item, "pck_chain") ?? new Uint8Array());
    const root = chain.find((c) => c.subject.key === c.issuer.key)?.raw;
    assert.ok(root);
    const accepted = verifySgx({ ...input, collateral, root });
    assert.equal(failures(accepted), "");
    assert.equal(accepted.claims["tcb_status"], item.expected.tcb_status);
    assert.equal(verifySgx({ ...input, collateral }).outcome, "untrusted");
    const { pckChain: _, ...without } = collateral;
    const { outcome, missing } = verifySgx({ ...input, root, collateral: without });
    assert.equal(outcome, "incomplete");
    assert.match(missing[0] ?? "", /^pck certificate for ppid 8461863b\S+, cpusvn 0003000000\S+, pcesvn 3$/);
  });

  it("finds debug enclaves authentic, and refuses them unless allowed", () => {
    const input = inputOf(corpusItem("sgx", "sgx-v3-00606a-debug"));
    const allow: SgxExpectations = { allowTcbStatuses: ["OutOfDate"] };
    assert.equal(failures(verifySgx({ ...input, expect: allow })), "attributes-debug");
    assert.equal(verifySgx({ ...input, expect: { ...allow, allowDebug: true } }).outcome, "accepted");
  });

  it("never accepts a flipped bit of a quote", () => {
    const input = inputOf(corpusItem("sgx", "sgx-v3-00606a-swhardening"));
    const collateral = new DcapCollateral(input.collateral);
    const expect: SgxExpectations = { allowTcbStatuses: ["SWHardeningNeeded"] };
    assert.equal(verifySgx({ ...input, collateral, expect }).outcome, "accepted");
    // Header, body, signature data up to the certificates; sampled here, whole in fuzz/attest-sgx.fuzz.ts.
    for (let bit = 0; bit < (432 + 4 + 128 + 384 + 64) * 8; bit += 43) {
      const quote = input.quote.slice();
      quote[bit >> 3] = (quote[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.notEqual(verifySgx({ ...input, collateral, expect, quote }).outcome, "accepted", `bit ${bit}`);
    }
  });

  it("calls every truncation malformed", () => {
    const input = inputOf(corpusItem("sgx", "sgx-v3-00606a-swhardening"));
    const collateral = new DcapCollateral(input.collateral);
    for (let n = 0; n < input.quote.length; n++) {
      const quote = input.quote.subarray(0, n);
      assert.equal(verifySgx({ ...input, collateral, quote }).outcome, "malformed", `${n} bytes`);
    }
  });

  it("prints header, report and platform by their names", () => {
    const lines = fieldLines(renderQuote(inputOf(corpusItem("sgx", "sgx-v3-00606a-debug")).quote));
    for (const name of [
      "TEE Type: 0x0 (SGX)",
      "DEBUG: true",
      "FMSPC: 00606a000000",
      "QE Certification Data: 5 (PCK certificate chain)",
    ]) {
      assert.ok(
        lines.some((l) => l.trim() === name),
        name,
      );
    }
  });
});

describe("sgx: quotes of a forged platform under a pinned root", () => {
  it("accepts the plain one in each version, and not without the pin", () => {
    for (const version of [3, 4, 5] as const) assert.equal(failures(judge(forge({ version }))), "");
    const { root: _, ...unpinned } = forge();
    assert.equal(verifySgx(unpinned).outcome, "untrusted");
  });

  it("names each missing piece of collateral and guesses none", () => {
    const forged = forge();
    const { collateral } = forged;
    const cases: readonly [keyof typeof collateral, RegExp][] = [
      ["tcbInfo", /^tcb-info for FMSPC 00C0FFEE0000 \(SGX\)$/],
      ["qeIdentity", /^qe identity \(QE\)$/],
      ["tcbInfoChain", /^issuer chain of the tcb info$/],
      ["pckCrl", /^crl of CN=Intel SGX PCK Platform CA/],
      ["rootCrl", /^crl of CN=Intel SGX Root CA/],
    ];
    for (const [member, name] of cases) {
      const { [member]: _, ...rest } = collateral;
      const verdict = judge(forged, {}, { collateral: rest });
      assert.equal(verdict.outcome, "incomplete", member);
      assert.ok(
        verdict.missing.some((m) => name.test(m)),
        verdict.missing.join("; "),
      );
    }
    assert.equal(verifySgx({ quote: forged.quote, root: forged.root, at: forged.at }).outcome, "incomplete");
  });

  const untrusted: readonly [string, Parameters<typeof forge>[0], string][] = [
    ["a revoked PCK", { revoked: [21] }, "pck-chain-revocation"],
    ["a revoked platform CA", { rootRevoked: [11] }, "pck-chain-revocation"],
    ["a revoked TCB signing key", { rootRevoked: [12] }, "tcb-info-chain-revocation"],
    ["a QE report by another key", { qeSigner: signer("x", "P-256").privateKey }, "qe-report-signature"],
    ["a QE report that does not bind the key", { editQe: (q) => q.set([1], 320) }, "qe-report-data"],
    ["a quoting enclave of another signer", { editQe: (q) => q.set([1], 128) }, "qe-mrsigner"],
    ["another product of the quoting enclave's signer", { editQe: (q) => q.set([3], 256) }, "qe-isv-prod-id"],
    ["a debug quoting enclave", { editQe: (q) => q.set([0x13], 48) }, "qe-attributes"],
    ["a quoting enclave with other misc", { editQe: (q) => q.set([1], 16) }, "qe-misc-select"],
    [
      "the TD quoting enclave's identity",
      { editQeIdentity: (i) => Object.assign(i, { id: "TD_QE" }) },
      "qe-identity-id",
    ],
    [
      "TCB info of another FMSPC",
      { editTcbInfo: (i) => Object.assign(i, { fmspc: "00C0FFEE0001" }) },
      "tcb-info-fmspc",
    ],
    [
      "TCB info of another PCE",
      { editTcbInfo: (i) => Object.assign(i, { pceId: "0001" }) },
      "tcb-info-pceid",
    ],
    ["a TCB below every level", { components: [2, ...new Array<number>(15).fill(9)] }, "tcb-status"],
    ["a PCE below every level", { pceSvn: 10 }, "tcb-status"],
    [
      "a revoked TCB",
      { editTcbInfo: (i) => Object.assign(i, { tcbLevels: [level("Revoked", [], 0)] }) },
      "tcb-status",
    ],
    ["a revoked quoting enclave", { editQe: (q) => q.set([3], 258) }, "tcb-status"],
    ["a quoting enclave below every level", { editQe: (q) => q.set([1], 258) }, "tcb-status"],
  ];
  for (const [what, options, check] of untrusted) {
    it(`does not trust ${what}`, () => {
      const verdict = judge(forge(options), { allowTcbStatuses: ["Revoked", "TcbNotSupported"] });
      assert.equal(verdict.outcome, "untrusted");
      assert.equal(failures(verdict), check);
    });
  }

  it("does not take a CRL of another authority for the one that is due", () => {
    const forged = forge();
    const { rootCrl } = forged.collateral;
    const swapped = judge(
      forged,
      {},
      { collateral: { ...forged.collateral, ...present({ pckCrl: rootCrl }) } },
    );
    assert.equal(swapped.outcome, "untrusted");
    assert.match(failures(swapped), /pck-crl-issuer/);
  });

  it("picks the first level at or below the platform, whatever the order in the document", () => {
    const tcbLevels = [
      level("OutOfDate", [1], 1, undefined, ["OLD"]),
      level("ConfigurationNeeded", [5, 5, 2, 2, 3, 1, 0, 2], 13, undefined, ["CONFIG"]),
      level("UpToDate", [5, 5, 2, 2, 3, 1, 0, 4], 13),
    ];
    const forged = forge({ editTcbInfo: (i) => Object.assign(i, { tcbLevels }) });
    const verdict = judge(forged);
    assert.equal(verdict.outcome, "refused");
    assert.equal(verdict.claims["tcb_status"], "ConfigurationNeeded");
    assert.partialDeepStrictEqual(verdict.claims["tcb_detail"], { advisories: ["CONFIG"] });
  });

  it("lets an outdated quoting enclave lower the platform's status", () => {
    const cases: readonly [string, string][] = [
      ["UpToDate", "OutOfDate"],
      ["SWHardeningNeeded", "OutOfDate"],
      ["ConfigurationNeeded", "OutOfDateConfigurationNeeded"],
      ["ConfigurationAndSWHardeningNeeded", "OutOfDateConfigurationNeeded"],
      ["OutOfDate", "OutOfDate"],
      ["OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded"],
      ["Revoked", "Revoked"],
    ];
    for (const [platform, status] of cases) {
      const verdict = judge(
        forge({
          editQe: (q) => q.set([4], 258),
          editTcbInfo: (i) => Object.assign(i, { tcbLevels: [level(platform, [1], 1, undefined, ["SA-X"])] }),
        }),
      );
      assert.equal(verdict.claims["tcb_status"], status, platform);
      assert.partialDeepStrictEqual(verdict.claims["tcb_detail"], {
        qe: "OutOfDate",
        advisories: ["SA-X", "SA-QE"],
      });
    }
  });

  it("concludes a platform's status also without the quoting enclave's identity, which stays missing", () => {
    const forged = forge({ editQe: (q) => q.set([3], 258) });
    const { qeIdentity: _, ...collateral } = forged.collateral;
    const verdict = judge(forged, {}, { collateral });
    assert.equal(verdict.outcome, "incomplete");
    assert.equal(verdict.claims["tcb_status"], "UpToDate");
    assert.partialDeepStrictEqual(verdict.claims["tcb_detail"], { qe: null });
  });

  it("reads TCB info of version 2", () => {
    const tcb: Loose = { pcesvn: 13 };
    for (let i = 1; i <= 16; i++) tcb[`sgxtcbcomp${String(i).padStart(2, "0")}svn`] = 0;
    const tcbLevels = [{ tcb, tcbDate: "2025-01-01T00:00:00Z", tcbStatus: "UpToDate" }];
    const forged = forge({
      editTcbInfo: (i) => {
        delete i["id"];
        Object.assign(i, { version: 2, tcbLevels });
      },
    });
    assert.equal(judge(forged).outcome, "accepted");
  });

  it("judges at the given time", () => {
    const forged = forge();
    assert.equal(judge(forged, {}, { at: new Date("2026-06-15T00:00:00Z") }).outcome, "expired");
    assert.equal(judge(forged, {}, { at: new Date("2026-05-14T00:00:00Z") }).outcome, "expired");
    const soon = forge({ editTcbInfo: (i) => Object.assign(i, { nextUpdate: "2026-05-31T23:59:59Z" }) });
    assert.equal(failures(judge(soon)), "tcb-info-validity");
    const later = forge({ editQeIdentity: (i) => Object.assign(i, { issueDate: "2026-06-01T00:00:01Z" }) });
    assert.equal(failures(judge(later)), "qe-identity-validity");
  });

  it("verifies TCB info over its exact bytes", () => {
    const spaced = forge({
      editTcbText: (t) => t.replace('"version"', ' "version" ').replace("{", '{ "x" : "\\"}],é" ,'),
    });
    assert.equal(judge(spaced).outcome, "accepted");
    const { collateral } = forge();
    const text = Buffer.from(collateral.tcbInfo ?? []).toString();
    const changed = { ...collateral, tcbInfo: Buffer.from(text.replace('"version"', ' "version"')) };
    assert.equal(failures(judge(forge(), {}, { collateral: changed })).includes("tcb-info-signature"), true);
  });

  const malformedTexts: readonly [string, (text: string) => string][] = [
    ["a key twice", (t) => t.replace("{", '{"fmspc":"00C0FFEE0000",')],
    ["a key twice, escaped", (t) => t.replace("{", '{"\\u0066mspc":"00C0FFEE0000",')],
    ["a status nobody knows", (t) => t.replace('"UpToDate"', '"Fine"')],
    [
      "a level twice",
      (t) =>
        t.replace(
          '"tcbLevels":[',
          `"tcbLevels":[${JSON.stringify(level("OutOfDate", [3, 3, 1, 1, 1], 11))},`,
        ),
    ],
    ["a negative svn", (t) => t.replace('"svn":5', '"svn":-5')],
    ["an svn above 255", (t) => t.replace('"svn":5', '"svn":256')],
    ["an svn that is no integer", (t) => t.replace('"svn":5', '"svn":5.5')],
    ["an svn as text", (t) => t.replace('"svn":5', '"svn":"5"')],
    ["minus zero", (t) => t.replace('"svn":0', '"svn":-0')],
    ["15 components", (t) => t.replace('{"svn":5},', "")],
    ["another tcbType", (t) => t.replace('"tcbType":0', '"tcbType":1')],
    ["version 4", (t) => t.replace('"version":3', '"version":4')],
    ["a day that does not exist", (t) => t.replace("2026-05-15", "2026-02-30")],
    ["a date with an offset", (t) => t.replace("2026-05-15T00:00:00Z", "2026-05-15T00:00:00+02:00")],
    ["a short fmspc", (t) => t.replace("00C0FFEE0000", "00C0FFEE00")],
    ["no levels", (t) => t.replace(/"tcbLevels":\[.*\]/, '"tcbLevels":[]')],
    ["a tdx module in SGX TCB info", (t) => t.replace("{", '{"tdxModule":{},')],
  ];
  for (const [what, edit] of malformedTexts) {
    it(`calls TCB info with ${what} malformed, however well signed`, () => {
      const verdict = judge(forge({ editTcbText: edit }));
      assert.equal(verdict.outcome, "malformed", failures(verdict));
    });
  }

  it("refuses documents with unknown members, trailing text or other signatures' lengths", () => {
    const text = Buffer.from(forge().collateral.tcbInfo ?? []).toString();
    for (const bad of [
      text.replace(/}$/, ',"x":1}'),
      `${text}x`,
      text.replace(/"signature":"../, '"signature":"'),
      text.replace(/"signature":"../, '"signature":"zz'),
      text.replace(/,"signature":"[^"]*"/, ""),
      "",
      "[]",
      "null",
      `${'{"tcbInfo":'.repeat(70)}1${"}".repeat(70)}`,
    ]) {
      assert.throws(() => parseTcbInfo(Buffer.from(bad)), { kind: "malformed" }, bad.slice(0, 60));
    }
    assert.throws(() => parseTcbInfo(Buffer.from([0xff, 0xfe])), { code: "COLLATERAL_MALFORMED" });
  });

  it("does not accept zero signatures, or values not below the order", () => {
    const { quote, ...rest } = forge();
    const order = fromHex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551");
    const offsets = [436, 468, 436 + 128 + 384, 436 + 128 + 384 + 32]; // quote and QE report, r and s
    for (const value of [new Uint8Array(32), order, new Uint8Array(32).fill(0xff)]) {
      for (const offset of offsets) {
        const changed = quote.slice();
        changed.set(value, offset);
        assert.equal(judge({ ...rest, quote: changed }).outcome, "untrusted", String(offset));
      }
    }
    const offCurve = quote.slice();
    offCurve.fill(0, 436 + 64, 436 + 128);
    assert.match(failures(judge({ ...rest, quote: offCurve })), /quote-signature/);
  });

  it("finds the PCK among duplicate, reordered and look-alike certificates", () => {
    const fake = signer("Intel SGX PCK Platform CA", "P-256");
    const root = signer("Intel SGX Root CA", "P-256");
    const lookAlike = certificate(fake, root, { ca: true });
    const reordered = forge({ chain: (p) => pem(rootCertificate, lookAlike, platformCertificate, p, p) });
    assert.equal(failures(judge(reordered)), "");
    const twoPcks = forge({
      chain: (p) => pem(p, pckCertificate([9, ...new Array<number>(15).fill(9)]), platformCertificate),
    });
    assert.equal(judge(twoPcks).outcome, "malformed");
    const noCa = forge({ chain: (p) => pem(p, lookAlike) });
    assert.equal(judge(noCa).outcome, "untrusted");
    const none = judge(forge({ chain: () => pem(platformCertificate) }));
    assert.equal(none.outcome, "incomplete");
    assert.match(none.missing[0] ?? "", /^pck certificate for /);
  });

  it("takes apart what is not a quote of an enclave", () => {
    const { quote, ...rest } = forge();
    const edit = (offset: number, value: readonly number[]): Uint8Array => {
      const changed = quote.slice();
      changed.set(value, offset);
      return changed;
    };
    for (const [what, bytes] of [
      ["version 2", edit(0, [2])],
      ["key type 3", edit(2, [3])],
      ["tee type tdx in version 3", edit(4, [0x81])],
      ["another vendor", edit(12, [0])],
      ["longer signature data", edit(432, [0xff, 0xff, 0xff, 0xff])],
      ["shorter signature data", edit(432, [0, 0, 0, 0])],
      ["longer authentication data", edit(436 + 128 + 448, [0xff, 0xff])],
      ["certification data of type 6", edit(436 + 128 + 448 + 34, [6])],
      ["certification data of type 0", edit(436 + 128 + 448 + 34, [0])],
    ] as const) {
      assert.equal(judge({ ...rest, quote: bytes }).outcome, "malformed", what);
    }
    assert.equal(judge(forge({ body: "td10" })).outcome, "malformed");
  });

  it("ignores what a larger buffer holds behind the quote, and says so", () => {
    const { quote, ...rest } = forge();
    const verdict = judge({ ...rest, quote: Buffer.concat([quote, new Uint8Array(70)]) });
    assert.equal(verdict.outcome, "accepted");
    assert.equal(verdict.checks[0]?.detail, "70 bytes behind the quote are not part of it");
  });

  it("holds each expectation against its field", () => {
    const other = new Uint8Array(64).fill(1);
    const wrong: readonly [SgxExpectations, string][] = [
      [{ mrEnclaves: [other.subarray(0, 32)] }, "mrenclave"],
      [{ mrSigners: [other.subarray(0, 32)] }, "mrsigner"],
      [{ isvProdId: 1 }, "isv-prod-id"],
      [{ minimumIsvSvn: 1 }, "isv-svn"],
      [{ configId: other }, "config-id"],
      [{ minimumConfigSvn: 1 }, "config-svn"],
      [{ isvFamilyId: other.subarray(0, 16) }, "isv-family-id"],
      [{ isvExtProdId: other.subarray(0, 16) }, "isv-ext-prod-id"],
      [{ miscSelect: 1 }, "misc-select"],
      [{ minimumTcbEvaluationDataNumber: 18 }, "tcb-evaluation-data-number"],
    ];
    for (const [expect, name] of wrong) {
      const verdict = judge(forge(), expect);
      assert.equal(verdict.outcome, "refused");
      assert.equal(failures(verdict), name);
    }
    assert.equal(judge(forge(), { reportData: other }).outcome, "untrusted");
    assert.equal(
      judge(forge(), { mrSigners: [new Uint8Array(32)], isvProdId: 0, minimumTcbEvaluationDataNumber: 17 })
        .outcome,
      "accepted",
    );
  });

  it("judges many quotes with collateral parsed once", () => {
    const forged = forge();
    const collateral = new DcapCollateral(forged.collateral);
    for (let i = 0; i < 3; i++) assert.equal(judge(forged, {}, { collateral }).outcome, "accepted");
  });
});
