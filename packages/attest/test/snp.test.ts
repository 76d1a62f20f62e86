import assert from "node:assert/strict";
import { sign } from "node:crypto";
import { describe, it } from "node:test";
import {
  AMD_CERTIFICATES,
  decodeTcb,
  fieldLines,
  parseCertificates,
  parseCertTable,
  parseSnpReport,
  productOfCpuid,
  renderSnp,
  SnpCollateral,
  type SnpExpectations,
  type SnpInput,
  type Verdict,
  verifySnp,
} from "@shelter/attest";
import { fromHex } from "@shelter/base";
import {
  type CorpusItem,
  corpusAbsent,
  corpusFile,
  corpusItem,
  corpusItems,
  corpusVerdict,
  present,
} from "./snp-corpus.ts";
import { certificate, crl, der, extension, int, type Signer, signer } from "./snp-forge.ts";

const skip = corpusAbsent ?? false;

function inputOf(item: CorpusItem): SnpInput {
  const reportData = item.inputs?.expected_report_data;
  const report = corpusFile(item, "report");
  assert.ok(report);
  return {
    report,
    ...present({
      vek: corpusFile(item, "vek"),
      ca: corpusFile(item, "ca"),
      root: corpusFile(item, "root"),
      certTable: corpusFile(item, "cert_table"),
    }),
    at: new Date(item.verify_at),
    expect: reportData === undefined ? {} : { reportData: fromHex(reportData) },
  };
}

function failures(verdict: Verdict): string {
  return verdict.checks
    .filter((c) => !c.ok)
    .map((c) => c.name)
    .join(" ");
}

describe("snp: the evidence corpus", { skip }, () => {
  for (const item of corpusItems("snp")) {
    it(`judges ${item.id} as ${item.expected.verdict}`, () => {
      const verdict = verifySnp(inputOf(item));
      assert.equal(corpusVerdict(verdict.outcome), item.expected.verdict, failures(verdict));
      for (const [key, value] of Object.entries(item.expected.fields ?? {})) {
        if (key === "policy_bits") assert.partialDeepStrictEqual(verdict.claims[key], value);
        else assert.deepEqual(verdict.claims[key], value, key);
      }
    });
  }

  it("has AMD's own certificates built in, and accepts with nothing but the VEK", () => {
    for (const product of ["Milan", "Genoa", "Turin"] as const) {
      const roots = corpusItem("snp", `roots-${product.toLowerCase()}`, "trust-root");
      for (const kind of ["ark", "ask", "asvk"] as const) {
        const published = parseCertificates(corpusFile(roots, kind) ?? new Uint8Array())[0];
        const ours = parseCertificates(Buffer.from(AMD_CERTIFICATES[product][kind]))[0];
        assert.deepEqual(ours?.raw, published?.raw);
      }
    }
    for (const id of ["milan-v2-virtee", "genoa-v5-lunal", "turin-v5-oak", "milan-vlek-aws-2024"]) {
      const { report, vek, at } = inputOf(corpusItem("snp", id));
      assert.equal(verifySnp({ report, at, ...present({ vek }) }).outcome, "accepted", id);
    }
  });

  it("never accepts a flipped bit of report or signature", () => {
    const input = inputOf(corpusItem("snp", "genoa-v5-lunal"));
    // Sampled here; fuzz/attest-snp.fuzz.ts tries them all.
    for (let bit = 0; bit < 1184 * 8; bit += 61) {
      const report = input.report.slice();
      report[bit >> 3] = (report[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.notEqual(verifySnp({ ...input, report }).outcome, "accepted", `bit ${bit}`);
    }
  });

  it("calls every truncation and every trailing byte malformed", () => {
    const input = inputOf(corpusItem("snp", "genoa-v5-lunal"));
    for (let n = 0; n < input.report.length; n++) {
      assert.equal(verifySnp({ ...input, report: input.report.subarray(0, n) }).outcome, "malformed");
    }
    for (const tail of [0, 1]) {
      const report = Buffer.concat([input.report, Uint8Array.of(tail)]);
      assert.equal(verifySnp({ ...input, report }).outcome, "malformed");
    }
  });

  it("does not accept r or s of zero, of the order, or above it", () => {
    const input = inputOf(corpusItem("snp", "genoa-v5-lunal"));
    const order = fromHex(
      "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973",
    );
    const max = new Uint8Array(48).fill(0xff);
    for (const value of [new Uint8Array(48), order, max]) {
      for (const at of [[0x2a0], [0x2e8], [0x2a0, 0x2e8]]) {
        const report = input.report.slice();
        for (const offset of at) report.set(value.slice().reverse(), offset);
        const verdict = verifySnp({ ...input, report });
        assert.equal(verdict.outcome, "untrusted");
        assert.equal(failures(verdict), "report-signature");
      }
    }
  });

  it("names the missing VCEK by product, chip and tcb", () => {
    const { report, at } = inputOf(corpusItem("snp", "turin-v5-oak"));
    const verdict = verifySnp({ report, at });
    assert.equal(verdict.outcome, "incomplete");
    assert.match(
      verdict.missing[0] ?? "",
      /^vcek of Turin, chip 3b42092f69c656d30+, at fmc 0, bootloader 1, tee 0, snp 2, microcode 71$/,
    );
  });

  it("says expired, not untrusted, after the VLEK ran out", () => {
    const input = inputOf(corpusItem("snp", "milan-vlek-aws-2024"));
    assert.equal(verifySnp({ ...input, at: new Date("2026-01-01T00:00:00Z") }).outcome, "expired");
  });

  it("does not let a VCEK through in place of a VLEK", () => {
    const input = inputOf(corpusItem("snp", "milan-vlek-aws-2024"));
    const other = corpusFile(corpusItem("snp", "milan-v3-oak"), "vek");
    assert.ok(other);
    const verdict = verifySnp({ report: input.report, vek: other, at: input.at });
    assert.equal(verdict.outcome, "untrusted");
    assert.match(failures(verdict), /signing-key/);
  });

  it("prints every field by its name in the standard", () => {
    const lines = fieldLines(renderSnp(inputOf(corpusItem("snp", "milan-v3-oak")).report));
    for (const name of [
      "POLICY: 0x30000",
      "SIGNING_KEY: VCEK",
      "CPUID_MOD_ID: 0x1 (Milan)",
      "CURRENT_VERSION: 1.55.29",
    ]) {
      assert.ok(
        lines.some((l) => l.trim() === name),
        name,
      );
    }
  });
});

// Reports under keys of our own: what genuine evidence of other kinds would look like.
const ark = signer("ARK-Milan", "P-384");
const ask = signer("SEV-Milan", "P-384");
const chip = signer("SEV-VCEK", "P-384");
const AMD = "1.3.6.1.4.1.3704.1";
const HWID = new Uint8Array(64).map((_, i) => i + 1);

function vekExtensions(hwId: Uint8Array | undefined = HWID, microcode = 219): Uint8Array[] {
  return [
    extension(`${AMD}.1`, int(0)),
    extension(`${AMD}.2`, der(0x16, Buffer.from("Milan-B0"))),
    extension(`${AMD}.3.1`, int(4)),
    extension(`${AMD}.3.2`, int(0)),
    extension(`${AMD}.3.3`, int(24)),
    extension(`${AMD}.3.8`, int(microcode)),
    ...(hwId === undefined ? [] : [extension(`${AMD}.4`, hwId)]),
  ];
}

const root = certificate(ark, ark, { ca: true });
const ca = certificate(ask, ark, { ca: true, serial: 42 });
const vek = certificate(chip, ask, { extensions: vekExtensions() });
const AT = new Date("2026-06-01T00:00:00Z");

function makeReport(
  edit: (report: Uint8Array, view: DataView) => void = () => {},
  by: Signer = chip,
): Uint8Array {
  const report = new Uint8Array(1184);
  const view = new DataView(report.buffer);
  view.setUint32(0, 3, true);
  view.setBigUint64(8, 0x30000n, true);
  view.setUint32(0x34, 1, true);
  const tcb = Uint8Array.of(4, 0, 0, 0, 0, 0, 24, 219);
  for (const at of [0x38, 0x180, 0x1e0, 0x1f0]) report.set(tcb, at);
  report.set([0x19, 0x01, 0x01], 0x188);
  report.set(HWID, 0x1a0);
  report.set([29, 55, 1, 0, 29, 55, 1, 0], 0x1e8);
  edit(report, view);
  const signature = sign("sha384", report.subarray(0, 0x2a0), {
    key: by.privateKey,
    dsaEncoding: "ieee-p1363",
  });
  report.set(new Uint8Array(signature.subarray(0, 48)).reverse(), 0x2a0);
  report.set(new Uint8Array(signature.subarray(48)).reverse(), 0x2e8);
  return report;
}

function judge(report: Uint8Array, expect: SnpExpectations = {}, more: Partial<SnpInput> = {}): Verdict {
  return verifySnp({ report, vek, ca, root, at: AT, expect, ...more });
}

describe("snp: reports of a forged chip under a pinned root", () => {
  it("accepts the plain one, and not without the pin", () => {
    assert.equal(failures(judge(makeReport())), "");
    assert.equal(verifySnp({ report: makeReport(), vek, ca, at: AT }).outcome, "untrusted");
  });

  const refusals: readonly [string, (r: Uint8Array, v: DataView) => void, SnpExpectations, string][] = [
    ["debugging", (_, v) => v.setBigUint64(8, 0xb0000n, true), { allowDebug: true }, "policy-debug"],
    [
      "a migration agent",
      (_, v) => v.setBigUint64(8, 0x70000n, true),
      { allowMigration: true },
      "policy-migration",
    ],
    [
      "a report the host asked for",
      (_, v) => v.setUint32(0x30, 0xffffffff, true),
      { allowHostRequest: true },
      "requested-by",
    ],
  ];
  for (const [what, edit, allow, check] of refusals) {
    it(`refuses ${what} unless it is allowed`, () => {
      const refused = judge(makeReport(edit));
      assert.equal(refused.outcome, "refused");
      assert.equal(failures(refused), check);
      assert.equal(judge(makeReport(edit), allow).outcome, "accepted");
    });
  }

  const untrusted: readonly [string, (r: Uint8Array, v: DataView) => void, string][] = [
    ["a reported tcb other than the key's", (r) => r.set([218], 0x187), "tcb-vek"],
    ["a reported tcb above the current", (r) => r.set([218], 0x3f), "tcb-reported tcb-committed"],
    ["a committed tcb above the current", (r) => r.set([220], 0x1e7), "tcb-committed"],
    ["another chip", (r) => r.set([9], 0x1a0), "chip-id"],
    ["a masked chip key", (_, v) => v.setUint32(0x48, 2, true), "mask-chip-key"],
    ["a report that says it is not signed", (_, v) => v.setUint32(0x48, 7 << 2, true), "signing-key"],
    ["a VLEK report under a VCEK", (_, v) => v.setUint32(0x48, 1 << 2, true), "signing-key"],
    ["another signature algorithm", (_, v) => v.setUint32(0x34, 2, true), "signature-algorithm"],
    ["committed firmware above the current", (r) => r.set([30], 0x1ec), "firmware-committed"],
    ["another product", (r) => r.set([0x19, 0x11], 0x188), "vek-issuer product"],
    ["a product without roots", (r) => r.set([0x1a, 0x50], 0x188), "vek-issuer product tcb-vek"],
  ];
  for (const [what, edit, names] of untrusted) {
    it(`does not trust ${what}`, () => {
      const verdict = judge(makeReport(edit));
      assert.equal(verdict.outcome, "untrusted");
      assert.equal(failures(verdict), names);
    });
  }

  const malformed: readonly [string, (r: Uint8Array, v: DataView) => void][] = [
    ["version 1", (_, v) => v.setUint32(0, 1, true)],
    ["version 6", (_, v) => v.setUint32(0, 6, true)],
    ["vmpl 4", (_, v) => v.setUint32(0x30, 4, true)],
    ["policy without bit 17", (_, v) => v.setBigUint64(8, 0x10000n, true)],
    ["a reserved policy bit", (_, v) => v.setBigUint64(8, 0x30000n | (1n << 40n), true)],
    ["a reserved flag", (_, v) => v.setUint32(0x48, 0x20, true)],
    ["a signing key that does not exist", (_, v) => v.setUint32(0x48, 3 << 2, true)],
    ["a byte behind the flags", (r) => r.set([1], 0x4c)],
    ["a byte behind the cpuid", (r) => r.set([1], 0x19f)],
    ["a byte before the signature", (r) => r.set([1], 0x29f)],
    ["a byte behind the signature", (r) => r.set([1], 0x49f)],
    ["a mitigation vector before version 5", (r) => r.set([1], 0x1f8)],
    ["a reserved byte of the launch tcb", (r) => r.set([1], 0x1f3)],
    ["a cpuid before version 3", (_, v) => v.setUint32(0, 2, true)],
  ];
  for (const [what, edit] of malformed) {
    it(`calls ${what} malformed`, () => assert.equal(judge(makeReport(edit)).outcome, "malformed"));
  }

  it("accepts a chip the host masked, and still binds it when a chip is expected", () => {
    const masked = makeReport((r) => r.fill(0, 0x1a0, 0x1e0));
    assert.equal(judge(masked).outcome, "accepted");
    assert.equal(judge(masked, { chipIds: [HWID] }).outcome, "refused");
    assert.equal(judge(makeReport(), { chipIds: [HWID] }).outcome, "accepted");
  });

  it("reads hwID also inside an OCTET STRING", () => {
    const wrapped = certificate(chip, ask, { extensions: vekExtensions(der(0x04, HWID)) });
    assert.equal(judge(makeReport(), {}, { vek: wrapped }).outcome, "accepted");
  });

  it("holds each expectation against its field", () => {
    const other = new Uint8Array(48).fill(1);
    const wrong: readonly [SnpExpectations, string][] = [
      [{ measurements: [other] }, "measurement"],
      [{ hostData: other.subarray(0, 32) }, "host-data"],
      [{ familyId: other.subarray(0, 16) }, "family-id"],
      [{ imageId: other.subarray(0, 16) }, "image-id"],
      [{ idKeyDigests: [other] }, "id-key-digest"],
      [{ authorKeyDigests: [new Uint8Array(48)] }, "author-key-required"],
      [{ vmpl: 1 }, "vmpl"],
      [{ minimumGuestSvn: 1 }, "guest-svn"],
      [{ minimumTcb: { microcode: 220 } }, "minimum-tcb"],
      [{ minimumLaunchTcb: { snp: 25 } }, "minimum-launch-tcb"],
      [{ minimumFirmware: { major: 1, minor: 56, build: 0 } }, "minimum-firmware"],
      [{ minimumAbi: { major: 0, minor: 1 } }, "minimum-abi"],
      [{ allowSmt: false }, "expected-smt"],
      [{ requireSingleSocket: true }, "policy-single-socket"],
      [{ requireMemAes256Xts: true }, "policy-mem-aes-256-xts"],
      [{ requireRaplDisabled: true }, "policy-rapl"],
      [{ requireCiphertextHiding: true }, "policy-ciphertext-hiding"],
      [{ requirePageSwapDisabled: true }, "policy-page-swap"],
      [{ requireAliasCheck: true }, "platform-alias-check"],
    ];
    for (const [expect, name] of wrong) {
      const verdict = judge(makeReport(), expect);
      assert.equal(verdict.outcome, "refused", name);
      assert.equal(failures(verdict), name);
    }
    const right: SnpExpectations = {
      measurements: [other, new Uint8Array(48)],
      hostData: new Uint8Array(32),
      vmpl: 0,
      minimumTcb: { microcode: 219, snp: 24 },
      minimumLaunchTcb: { bootloader: 4 },
      allowProvisionalFirmware: false,
    };
    assert.equal(judge(makeReport(), right).outcome, "accepted");
  });

  it("compares short report data with zeros behind it, and nothing longer than the field", () => {
    const report = makeReport((r) => r.set([1, 2, 3], 0x50));
    assert.equal(judge(report, { reportData: Uint8Array.of(1, 2, 3) }).outcome, "accepted");
    assert.equal(judge(report, { reportData: Uint8Array.of(1, 2) }).outcome, "untrusted");
    assert.equal(judge(report, { reportData: new Uint8Array(65) }).outcome, "untrusted");
  });

  it("takes revocation, a stale CRL and a missing CRL apart", () => {
    const from = new Date("2026-05-01T00:00:00Z");
    const to = new Date("2026-07-01T00:00:00Z");
    const outcome = (crls: readonly Uint8Array[], expect: SnpExpectations = {}): string =>
      judge(makeReport(), expect, { crls }).outcome;
    assert.equal(outcome([crl(ark, [1, 2], from, to)], { requireCrl: true }), "accepted");
    assert.equal(outcome([crl(ark, [42], from, to)]), "untrusted");
    assert.equal(outcome([crl(ark, [], from, from)]), "expired");
    assert.equal(outcome([crl({ ...ask, commonName: "ARK-Milan" }, [], from, to)]), "untrusted");
    assert.equal(outcome([], { requireCrl: true }), "incomplete");
  });

  it("finds its way through duplicate, reordered and look-alike certificates", () => {
    const fake = signer("SEV-Milan", "P-384");
    const lookAlike = certificate(fake, ark, { ca: true });
    const pem = (...list: Uint8Array[]): Uint8Array =>
      Buffer.from(
        list
          .map(
            (c) =>
              `-----BEGIN CERTIFICATE-----\n${Buffer.from(c).toString("base64")}\n-----END CERTIFICATE-----\n`,
          )
          .join(""),
      );
    assert.equal(judge(makeReport(), {}, { ca: pem(root, lookAlike, ca, ca) }).outcome, "accepted");
    assert.equal(judge(makeReport(), {}, { ca: pem(lookAlike) }).outcome, "untrusted");
    // A root of the same name made by somebody else, with everything under it consistent.
    const evil = signer("ARK-Milan", "P-384");
    const evilRoot = certificate(evil, evil, { ca: true });
    const evilAsk = certificate(ask, evil, { ca: true });
    assert.equal(judge(makeReport(), {}, { ca: pem(evilRoot, evilAsk) }).outcome, "untrusted");
    // A VCEK may not sign another VCEK.
    const grandchild = signer("SEV-VCEK", "P-384");
    const nested = certificate(
      grandchild,
      { ...chip, commonName: "SEV-VCEK" },
      { extensions: vekExtensions() },
    );
    const report = makeReport(undefined, grandchild);
    assert.equal(judge(report, {}, { vek: pem(nested, vek) }).outcome, "untrusted");
  });

  it("judges many reports with collateral parsed once", () => {
    const collateral = new SnpCollateral({ vek, ca });
    for (const outcome of ["accepted", "accepted"]) {
      assert.equal(verifySnp({ report: makeReport(), collateral, root, at: AT }).outcome, outcome);
    }
    const forged = makeReport(undefined, signer("SEV-VCEK", "P-384"));
    assert.equal(verifySnp({ report: forged, collateral, root, at: AT }).outcome, "untrusted");
    assert.equal(verifySnp({ report: makeReport(), collateral, at: AT }).outcome, "untrusted");
    const late = new Date("2036-01-01T00:00:00Z");
    assert.equal(verifySnp({ report: makeReport(), collateral, root, at: late }).outcome, "expired");
  });

  it("does not trust a key on another curve, or one without AMD's extensions", () => {
    const small = signer("SEV-VCEK", "P-256");
    const onP256 = certificate(small, ask, { extensions: vekExtensions() });
    assert.equal(judge(makeReport(), {}, { vek: onP256 }).outcome, "untrusted");
    assert.equal(judge(makeReport(), {}, { vek: certificate(chip, ask) }).outcome, "malformed");
    const noChip = certificate(chip, ask, { extensions: vekExtensions(undefined).slice(0, 6) });
    assert.equal(judge(makeReport(), {}, { vek: noChip }).outcome, "malformed");
  });
});

describe("snp: parts", () => {
  it("knows products by family and model", () => {
    assert.equal(productOfCpuid(0x19, 0x01), "Milan");
    assert.equal(productOfCpuid(0x19, 0x11), "Genoa");
    assert.equal(productOfCpuid(0x19, 0xa0), "Genoa");
    assert.equal(productOfCpuid(0x1a, 0x02), "Turin");
    assert.equal(productOfCpuid(0x1a, 0x50), undefined);
    assert.equal(productOfCpuid(0x17, 0x31), undefined);
  });

  it("lays the tcb out per product", () => {
    const bytes = Uint8Array.of(1, 2, 3, 4, 0, 0, 0, 5);
    assert.deepEqual(
      { ...decodeTcb(bytes, "Turin") },
      { fmc: 1, bootloader: 2, tee: 3, snp: 4, microcode: 5 },
    );
    assert.equal(decodeTcb(bytes, "Genoa"), undefined);
  });

  it("refuses certificate tables that point outside, overlap their entries or repeat", () => {
    const entry = (guid: string, offset: number, length: number): Buffer => {
      const b = Buffer.alloc(24);
      b.set(fromHex(guid));
      b.writeUInt32LE(offset, 16);
      b.writeUInt32LE(length, 20);
      return b;
    };
    const vcek = "63da758de6644564adc5f4b93be8accd";
    const end = Buffer.alloc(24);
    const good = Buffer.concat([entry(vcek, 48, 2), end, Uint8Array.of(7, 8)]);
    assert.deepEqual([...(parseCertTable(good).get("vcek") ?? [])], [7, 8]);
    for (const bad of [
      entry(vcek, 48, 2),
      Buffer.concat([entry(vcek, 47, 2), end, Uint8Array.of(7, 8)]),
      Buffer.concat([entry(vcek, 48, 3), end, Uint8Array.of(7, 8)]),
      Buffer.concat([entry(vcek, 0xffffffff, 0xffffffff), end]),
      Buffer.concat([entry(vcek, 72, 1), entry(vcek, 72, 1), end, Uint8Array.of(7)]),
    ]) {
      assert.throws(() => parseCertTable(bad), { code: "SNP_CERT_TABLE_MALFORMED" });
    }
  });

  it("parses a report of each version", () => {
    for (const version of [3, 4, 5]) {
      const report = makeReport((_, v) => v.setUint32(0, version, true));
      assert.equal(parseSnpReport(report).version, version);
    }
  });
});
