import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { describe, it } from "node:test";
import {
  DcapCollateral,
  type DcapFiles,
  fieldLines,
  renderQuote,
  replayRtmrs,
  type TdxExpectations,
  type TdxInput,
  type Verdict,
  verifySgx,
  verifyTdx,
} from "@shelter/attest";
import { fromHex, toHex } from "@shelter/base";
import { type ForgeOptions, forge, isvLevel, type Loose, level } from "./sgx-forge.ts";
import {
  type CorpusItem,
  corpusAbsent,
  corpusFile,
  corpusItem,
  corpusItems,
  corpusVerdict,
  present,
} from "./snp-corpus.ts";

const skip = corpusAbsent ?? false;

function inputOf(item: CorpusItem): Omit<TdxInput, "collateral"> & { readonly collateral: DcapFiles } {
  const file = (role: string): Uint8Array | undefined => corpusFile(item, role);
  const quote = file("quote");
  assert.ok(quote);
  return {
    quote,
    at: new Date(item.verify_at),
    ...present({ root: file("root"), eventLog: file("ccel") ?? file("event_log") }),
    collateral: present({
      tcbInfo: file("tcb_info"),
      qeIdentity: file("qe_identity"),
      tcbInfoChain: file("tcb_info_chain"),
      qeIdentityChain: file("qe_identity_chain"),
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

function judge(options: ForgeOptions, expect: TdxExpectations = {}, more: Partial<TdxInput> = {}): Verdict {
  return verifyTdx({ ...forge({ body: "td10", ...options }), expect, ...more });
}

describe("tdx: the evidence corpus", { skip }, () => {
  for (const item of corpusItems("tdx")) {
    it(`judges ${item.id} as ${item.expected.verdict}`, () => {
      const verdict = verifyTdx(inputOf(item));
      assert.equal(corpusVerdict(verdict.outcome), item.expected.verdict, failures(verdict));
      const { fields, tcb_status, tcb_detail } = item.expected;
      for (const [key, value] of Object.entries(fields ?? {}))
        assert.deepEqual(verdict.claims[key], value, key);
      if (tcb_status !== undefined) assert.equal(verdict.claims["tcb_status"], tcb_status);
      if (tcb_detail !== undefined) assert.deepEqual(verdict.claims["tcb_detail"], tcb_detail);
    });
  }

  it("says expired for old collateral, incomplete for none, malformed for a cut quote", () => {
    const outcome = (id: string): string => verifyTdx(inputOf(corpusItem("tdx", id))).outcome;
    assert.equal(outcome("tdx-v4-b0c06f-uptodate--collateral-expired"), "expired");
    assert.equal(outcome("tdx-v4-b0c06f-uptodate--collateral-missing"), "incomplete");
    assert.equal(outcome("tdx-v4-b0c06f-uptodate--truncated"), "malformed");
    assert.equal(outcome("tdx-v4-b0c06f-uptodate--sig-bitflip"), "untrusted");
  });

  it("names the TCB info of a genuine quote that came without", () => {
    const { missing } = verifyTdx(inputOf(corpusItem("tdx", "tdx-v4-b0c06f-uptodate--collateral-missing")));
    assert.ok(missing.includes("tcb-info for FMSPC B0C06F000000 (TDX)"));
    assert.ok(missing.includes("qe identity (TD_QE)"));
  });

  it("never accepts a flipped bit of a quote", () => {
    const input = inputOf(corpusItem("tdx", "tdx-v4-b0c06f-uptodate"));
    const collateral = new DcapCollateral(input.collateral);
    assert.equal(verifyTdx({ ...input, collateral }).outcome, "accepted");
    // Header, body, signature data up to the certificates; sampled here, whole in fuzz/attest-tdx.fuzz.ts.
    for (let bit = 0; bit < (632 + 4 + 128 + 6 + 384 + 64) * 8; bit += 53) {
      const quote = input.quote.slice();
      quote[bit >> 3] = (quote[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      assert.notEqual(verifyTdx({ ...input, collateral, quote }).outcome, "accepted", `bit ${bit}`);
    }
  });

  it("calls every truncation malformed", () => {
    const input = inputOf(corpusItem("tdx", "tdx-v5-90c06f-nolevel"));
    const collateral = new DcapCollateral(input.collateral);
    for (let n = 0; n < input.quote.length; n += 3) {
      const quote = input.quote.subarray(0, n);
      assert.equal(verifyTdx({ ...input, collateral, quote }).outcome, "malformed", `${n} bytes`);
    }
  });

  it("does not expect the firmware's log to speak about RTMR3, which the guest extends later", () => {
    const { eventLog = new Uint8Array() } = inputOf(corpusItem("tdx", "tdx-v4-00806f-gce-cos113-ccel"));
    assert.deepEqual([...replayRtmrs(eventLog).silent], [3]);
    const json = inputOf(corpusItem("tdx", "tdx-v4-90c06f-dstack-eventlog")).eventLog ?? new Uint8Array();
    assert.deepEqual([...replayRtmrs(json).silent], []);
  });

  it("does not let a genuine event log of another boot through", () => {
    const gce = inputOf(corpusItem("tdx", "tdx-v4-00806f-gce-cos113-ccel"));
    const dstack = inputOf(corpusItem("tdx", "tdx-v4-90c06f-dstack-eventlog"));
    const swapped = verifyTdx({ ...gce, ...present({ eventLog: dstack.eventLog }) });
    assert.equal(swapped.outcome, "untrusted");
    assert.equal(failures(swapped), "event-log-rtmr0 event-log-rtmr1 event-log-rtmr2 event-log-rtmr3");
    const log = gce.eventLog?.slice() ?? new Uint8Array();
    const at = Buffer.from(log).indexOf(Buffer.from("0c00", "hex"), 200) + 2; // inside a SHA-384 digest
    log[at] = (log[at] ?? 0) ^ 1;
    assert.match(failures(verifyTdx({ ...gce, eventLog: log })), /event-log/);
  });

  it("refuses a runtime event whose text was changed after it was measured", () => {
    const input = inputOf(corpusItem("tdx", "tdx-v4-90c06f-dstack-eventlog"));
    const events = JSON.parse(Buffer.from(input.eventLog ?? []).toString()) as Loose[];
    const last = events.findLast((e) => e["imr"] === 3);
    assert.ok(last);
    last["event_payload"] = `00${String(last["event_payload"])}`;
    const verdict = verifyTdx({ ...input, eventLog: Buffer.from(JSON.stringify(events)) });
    assert.equal(verdict.outcome, "refused");
    assert.equal(failures(verdict), "event-log-data");
  });

  it("prints header, report and platform by their names", () => {
    const lines = fieldLines(renderQuote(inputOf(corpusItem("tdx", "tdx-v5-90c06f-nolevel")).quote));
    for (const name of [
      "TEE Type: 0x81 (TDX)",
      "SEPT_VE_DISABLE: true",
      "FMSPC: 90c06f000000",
      "TD Report 1.5",
    ]) {
      assert.ok(
        lines.some((l) => l.trim() === name),
        name,
      );
    }
  });
});

describe("tdx: quotes of a forged platform under a pinned root", () => {
  it("accepts the plain one in each version and form", () => {
    assert.equal(failures(judge({ version: 4 })), "");
    assert.equal(failures(judge({ version: 5 })), "");
    assert.equal(failures(judge({ body: "td15" })), "");
  });

  const refusals: readonly [string, number[], TdxExpectations, string][] = [
    ["debugging", [1, 0, 0, 0x10], { allowDebug: true }, "attributes-debug"],
    ["profiling", [0x10, 0, 0, 0x10], { allowDebug: true }, "attributes-debug"],
    ["migration", [0, 0, 0, 0x30], { allowMigratable: true }, "attributes-migratable"],
    [
      "unknown attributes",
      [0, 1, 0, 0x10],
      { tdAttributes: Uint8Array.of(0, 1, 0, 0x10, 0, 0, 0, 0) },
      "attributes-reserved",
    ],
  ];
  for (const [what, bytes, allow, check] of refusals) {
    it(`refuses ${what} unless it is allowed`, () => {
      const options: ForgeOptions = { editBody: (b) => b.set(bytes, 120) };
      const refused = judge(options);
      assert.equal(refused.outcome, "refused");
      assert.equal(failures(refused), check);
      assert.equal(judge(options, allow).outcome, "accepted");
    });
  }

  const untrusted: readonly [string, ForgeOptions, string][] = [
    ["a module of another signer", { editBody: (b) => b.set([1], 64) }, "tdx-module-mrsigner"],
    ["a debug module", { editBody: (b) => b.set([1], 112) }, "tdx-module-attributes"],
    ["a module version without identity", { editBody: (b) => b.set([2], 1) }, "tcb-status tdx-module"],
    ["a module below every level of its identity", { editBody: (b) => b.set([1], 0) }, "tcb-status"],
    ["microcode below every level", { editBody: (b) => b.set([2], 2) }, "tcb-status"],
    [
      "the SGX quoting enclave's identity",
      { editQeIdentity: (i) => Object.assign(i, { id: "QE" }) },
      "qe-identity-id",
    ],
  ];
  for (const [what, options, check] of untrusted) {
    it(`does not trust ${what}`, () => {
      const verdict = judge(options, { allowTcbStatuses: ["TdxModuleMismatch", "TcbNotSupported"] });
      assert.equal(verdict.outcome, "untrusted");
      assert.equal(failures(verdict), check);
    });
  }

  it("does not trust TCB info for SGX, and concludes no status from it", () => {
    const { collateral: sgx } = forge();
    const td = forge({ body: "td10" });
    const verdict = verifyTdx({
      ...td,
      collateral: { ...td.collateral, ...present({ tcbInfo: sgx.tcbInfo }) },
    });
    assert.equal(verdict.outcome, "untrusted");
    assert.equal(failures(verdict), "tcb-info-id");
    assert.equal(verdict.claims["tcb_status"], undefined);
  });

  it("judges old modules by the platform's levels and its one module entry", () => {
    const old: ForgeOptions = { editBody: (b) => b.set([5, 0, 6], 0) };
    const verdict = judge(old);
    assert.equal(verdict.outcome, "accepted");
    assert.partialDeepStrictEqual(verdict.claims["tcb_detail"], { tdx_module: null });
    assert.equal(judge({ editBody: (b) => b.set([4, 0, 6], 0) }).claims["tcb_status"], "OutOfDate");
  });

  it("lets an outdated module lower the platform's status", () => {
    const cases: readonly [string, string][] = [
      ["UpToDate", "OutOfDate"],
      ["SWHardeningNeeded", "OutOfDate"],
      ["ConfigurationNeeded", "OutOfDateConfigurationNeeded"],
      ["ConfigurationAndSWHardeningNeeded", "OutOfDateConfigurationNeeded"],
      ["OutOfDate", "OutOfDate"],
      ["Revoked", "Revoked"],
    ];
    for (const [platform, status] of cases) {
      const verdict = judge({
        editBody: (b) => b.set([2], 0),
        editTcbInfo: (i) => Object.assign(i, { tcbLevels: [level(platform, [1], 1, [0], ["SA-X"])] }),
      });
      assert.equal(verdict.claims["tcb_status"], status, platform);
      assert.partialDeepStrictEqual(verdict.claims["tcb_detail"], {
        platform,
        tdx_module: "OutOfDate",
        advisories: ["SA-X", "SA-MODULE"],
      });
    }
  });

  it("takes a revoked module for a revoked platform", () => {
    const verdict = judge({
      editTcbInfo: (i) => {
        const [identity] = i["tdxModuleIdentities"] as Loose[];
        Object.assign(identity ?? {}, { tcbLevels: [isvLevel("Revoked", 0)] });
      },
    });
    assert.equal(verdict.outcome, "untrusted");
    assert.equal(verdict.claims["tcb_status"], "Revoked");
  });

  it("advises a relaunch where only the module at launch was old", () => {
    const status = (options: ForgeOptions): unknown =>
      judge({ body: "td15", ...options }).claims["tcb_status"];
    const oldAtLaunch = (b: Uint8Array): void => b.set([2], 0);
    const edits =
      (more: (b: Uint8Array) => void) =>
      (b: Uint8Array): void => {
        oldAtLaunch(b);
        more(b);
      };
    assert.equal(status({ editBody: oldAtLaunch }), "TDRelaunchAdvised");
    const configuration = (i: Loose): Loose =>
      Object.assign(i, { tcbLevels: [level("ConfigurationNeeded", [1], 1, [5, 0, 6])] });
    assert.equal(
      status({ editBody: oldAtLaunch, editTcbInfo: configuration }),
      "TDRelaunchAdvisedConfigurationNeeded",
    );
    // Still old now, or old otherwise: no such advice.
    assert.equal(status({ editBody: edits((b) => b.set([3], 584)) }), "OutOfDate");
    assert.equal(status({ editBody: edits((b) => b.set([5], 586)) }), "OutOfDate");
    assert.equal(status({ editBody: oldAtLaunch, editQe: (q) => q.set([4], 258) }), "OutOfDate");
    assert.equal(
      status({ editBody: oldAtLaunch, components: [4, 4, 1, 1, 1].concat(new Array<number>(11).fill(0)) }),
      "OutOfDate",
    );
    assert.equal(status({ editBody: edits((b) => b.set([9], 585)) }), "TdxModuleMismatch");
    const refused = judge({ body: "td15", editBody: oldAtLaunch });
    assert.equal(refused.outcome, "refused");
    const allowed: TdxExpectations = { allowTcbStatuses: ["TDRelaunchAdvised"] };
    assert.equal(judge({ body: "td15", editBody: oldAtLaunch }, allowed).outcome, "accepted");
  });

  it("takes apart what is not a quote of a trust domain", () => {
    const { quote, ...rest } = forge({ body: "td15" });
    const edit = (offset: number, value: readonly number[]): string => {
      const changed = quote.slice();
      changed.set(value, offset);
      return verifyTdx({ ...rest, quote: changed }).outcome;
    };
    assert.equal(edit(48, [4]), "malformed");
    assert.equal(edit(48, [2]), "malformed");
    assert.equal(edit(48, [1]), "malformed");
    assert.equal(edit(50, [0xff, 0xff, 0xff, 0xff]), "malformed");
    assert.equal(edit(4, [0]), "malformed");
    assert.equal(edit(54 + 648 + 4 + 128, [5]), "malformed");
    assert.equal(verifyTdx(forge()).outcome, "malformed");
    assert.equal(verifySgx(forge({ body: "td10" })).outcome, "malformed");
  });

  it("holds each expectation against its field", () => {
    const other = new Uint8Array(48).fill(1);
    const wrong: readonly [TdxExpectations, string][] = [
      [{ mrTds: [other] }, "mrtd"],
      [{ rtmrs: [undefined, undefined, [other]] }, "rtmr2"],
      [{ mrConfigId: other }, "mrconfigid"],
      [{ mrOwner: other }, "mrowner"],
      [{ mrOwnerConfig: other }, "mrownerconfig"],
      [{ mrSeams: [other] }, "mrseam"],
      [{ mrServiceTds: [other] }, "mrservicetd"],
      [{ tdAttributes: new Uint8Array(8) }, "tdattributes"],
      [{ xfam: Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0) }, "xfam"],
      [
        { minimumTeeTcbSvn: Uint8Array.of(5, 1, 6, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0) },
        "minimum-tee-tcb-svn",
      ],
    ];
    for (const [expect, name] of wrong) {
      const verdict = judge({ body: "td15" }, expect);
      assert.equal(verdict.outcome, "refused");
      assert.equal(failures(verdict), name);
    }
    assert.equal(failures(judge({}, { mrServiceTds: [new Uint8Array(48)] })), "mrservicetd");
    const right: TdxExpectations = { mrTds: [other, new Uint8Array(48)], rtmrs: [[new Uint8Array(48)]] };
    assert.equal(judge({}, right).outcome, "accepted");
  });
});

describe("tdx: event logs", () => {
  const digest = toHex(new Uint8Array(48).fill(7));
  const event = { imr: 1, event_type: 4, digest, event: "", event_payload: "" };

  it("extends registers in order from zeros", () => {
    const { rtmrs } = replayRtmrs(Buffer.from(JSON.stringify([event, event, { ...event, imr: 0 }])));
    const extend = (old: Uint8Array): Uint8Array =>
      createHash("sha384").update(old).update(fromHex(digest)).digest();
    const once = extend(new Uint8Array(48));
    assert.equal(toHex(rtmrs[0] ?? once), toHex(once));
    assert.equal(toHex(rtmrs[1] ?? once), toHex(extend(once)));
    assert.equal(toHex(rtmrs[2] ?? once), "00".repeat(48));
  });

  it("refuses logs that are none", () => {
    for (const bad of [
      "[1]",
      "[null]",
      JSON.stringify([{ ...event, imr: 4 }]),
      JSON.stringify([{ ...event, imr: -1 }]),
      JSON.stringify([{ ...event, imr: 0.5 }]),
      JSON.stringify([{ ...event, digest: digest.slice(2) }]),
      JSON.stringify([{ ...event, digest: "zz".repeat(48) }]),
      JSON.stringify([{ ...event, event_type: "4" }]),
      "[",
      "{}",
      "",
    ]) {
      assert.throws(() => replayRtmrs(Buffer.from(bad)), { kind: "malformed" }, bad);
    }
  });
});
