import assert from "node:assert/strict";
import { test } from "node:test";
import { type CsvInput, parseCsvEvidence, parseCsvReport, verifyCsv } from "../src/csv/index.ts";
import { csvInput, failures, file, item, needed, skip } from "./csv-cca-nitro-corpus.ts";

// Trustee's present form, written here from raw reports: its structures are csv-rs's, field by field.

type Tree = { [key: string]: unknown };

const list = (bytes: Uint8Array): number[] => [...bytes];

function key(bytes: Uint8Array): Tree {
  return { g: bytes[0], x: list(bytes.subarray(4, 76)), y: list(bytes.subarray(76, 148)) };
}

function signature(bytes: Uint8Array): Tree {
  return { r: list(bytes.subarray(0, 72)), s: list(bytes.subarray(72, 144)) };
}

const u16 = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint16(at, true);
const u32 = (bytes: Uint8Array, at: number): number =>
  new DataView(bytes.buffer, bytes.byteOffset).getUint32(at, true);

function caJson(b: Uint8Array): Tree {
  return {
    body: {
      preamble: {
        ver: u32(b, 0),
        data: {
          kid: list(b.subarray(4, 20)),
          sid: list(b.subarray(20, 36)),
          usage: u32(b, 36),
          reserved: list(b.subarray(40, 64)),
        },
      },
      pubkey: key(b.subarray(64)),
      uid_size: u16(b, 212),
      user_id: list(b.subarray(214, 468)),
      reserved: list(b.subarray(468, 576)),
    },
    signature: signature(b.subarray(576)),
    _reserved: list(b.subarray(720, 832)),
  };
}

function chipJson(b: Uint8Array): Tree {
  const slot = (at: number): Tree => ({
    usage: u32(b, at),
    algo: u32(b, at + 4),
    signature: signature(b.subarray(at + 8)),
    _reserved: list(b.subarray(at + 152, at + 520)),
  });
  return {
    body: {
      ver: u32(b, 0),
      data: {
        firmware: { major: b[4], minor: b[5] },
        reserved1: u16(b, 6),
        pubkey: { usage: u32(b, 8), algo: u32(b, 12), key: key(b.subarray(16)) },
        uid_size: u16(b, 164),
        user_id: list(b.subarray(166, 420)),
        sid: list(b.subarray(420, 436)),
        reserved2: list(b.subarray(436, 1044)),
      },
    },
    sigs: [slot(1044), slot(1564)],
  };
}

function page(bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(4096);
  out.set(bytes);
  return out;
}

function trustee(id: string, change: (tree: Tree) => void = () => undefined): CsvInput {
  const of = item(id);
  const raw = needed(of, "report");
  const report = parseCsvReport(raw, csvInput(of).wrapper);
  assert.ok(report.signer);
  const hskCek = needed(of, "hsk_cek");
  const magic = report.version === 1 ? new Uint8Array(16) : Buffer.from("ATTESTATION_EXT\0");
  const serial = new Uint8Array(64);
  serial.set(Buffer.from(report.signer.serialNumber));
  const ccel = file(of, "ccel");
  const tree: Tree = {
    attestation_report: { magic: list(magic), flags: report.version - 1, data: list(page(raw)) },
    cert_chain: {
      hsk_cek: { hsk: caJson(hskCek.subarray(0, 832)), cek: chipJson(hskCek.subarray(832)) },
      pek: chipJson(report.signer.pek),
    },
    serial_number: list(serial),
    cc_eventlog: ccel === undefined ? null : Buffer.from(ccel).toString("base64"),
  };
  change(tree);
  const root = file(of, "root");
  return { evidence: Buffer.from(JSON.stringify(tree)), ...(root === undefined ? {} : { root }) };
}

const names = (input: CsvInput): readonly string[] =>
  verifyCsv(input)
    .checks.filter((c) => !c.ok)
    .map((c) => c.name);

for (const id of ["csv-v1-full-chain", "csv-v2-synthetic"]) {
  test(`accepts ${id} in Trustee's form, with hsk and cek inside`, { skip }, () => {
    const verdict = verifyCsv(trustee(id));
    assert.equal(verdict.outcome, "accepted", failures(verdict));
    const raw = verifyCsv(csvInput(item(id)));
    assert.deepEqual(verdict.claims, raw.claims);
  });

  test(`accepts ${id} in the older form, with hsk and cek in the chain itself`, { skip }, () => {
    const input = trustee(id, (tree) => {
      const chain = tree["cert_chain"] as Tree;
      tree["cert_chain"] = { ...(chain["hsk_cek"] as Tree), pek: chain["pek"] };
    });
    const verdict = verifyCsv(input);
    assert.equal(verdict.outcome, "accepted", failures(verdict));
  });

  test(`without hsk and cek inside, ${id} names the chip they are missing for`, { skip }, () => {
    const input = trustee(id, (tree) => {
      delete (tree["cert_chain"] as Tree)["hsk_cek"];
    });
    assert.equal(verifyCsv(input).outcome, "incomplete");
    const given = verifyCsv({ ...input, hskCek: needed(item(id), "hsk_cek") });
    assert.equal(given.outcome, "accepted", failures(given));
  });
}

test("accepts a version 1 report whose signer part the guest's library unmasked in place", { skip }, () => {
  const input = trustee("csv-v1-full-chain", (tree) => {
    const wrapped = tree["attestation_report"] as { data: number[] };
    const report = parseCsvReport(Uint8Array.from(wrapped.data), { magic: new Uint8Array(16), flags: 0 });
    assert.ok(report.signer);
    wrapped.data.splice(0x150, 2084, ...report.signer.pek);
    const serial = Buffer.alloc(96);
    serial.write(report.signer.serialNumber, "latin1");
    wrapped.data.splice(0x150 + 2084, 96, ...serial);
  });
  const verdict = verifyCsv(input);
  assert.equal(verdict.outcome, "accepted", failures(verdict));
  assert.ok(!verdict.checks.some((c) => c.name === "report-mac"));
});

test("an event log inside the evidence is replayed", { skip }, () => {
  const input = trustee("csv-v2-synthetic", (tree) => {
    const other = needed(item("csv-v2-synthetic-eventlog-mismatch"), "ccel");
    tree["cc_eventlog"] = Buffer.from(other).toString("base64");
  });
  assert.ok(names(input).some((n) => n.startsWith("event-log-rtmr")));
});

test("the pek beside the report must be the one inside it", { skip }, () => {
  const input = trustee("csv-v1-full-chain", (tree) => {
    const old = parseCsvEvidence(needed(item("csv-v1-trustee-old-form"), "evidence_json"));
    assert.ok(old.pek);
    (tree["cert_chain"] as Tree)["pek"] = chipJson(old.pek.raw);
  });
  assert.deepEqual(names(input), ["pek-signature", "report-signature", "report-pek"]);
});

test("duplicate keys, wrong lengths, non-bytes and non-objects are malformed", { skip }, () => {
  const malformed = (evidence: string): void => {
    assert.equal(verifyCsv({ evidence: Buffer.from(evidence) }).outcome, "malformed", evidence.slice(0, 80));
  };
  malformed("{");
  malformed("{}");
  malformed('{"attestation_report":null}');
  malformed('{"attestation_report":[]}');
  const text = Buffer.from(trustee("csv-v1-full-chain").evidence).toString();
  malformed(text.replace('"serial_number"', '"attestation_report":{},"serial_number"'));
  malformed(text.replace('"flags":0', '"flags":4294967296'));
  malformed(text.replace('"flags":0', '"flags":-1'));
  malformed(text.replace('"flags":0', '"flags":0.5'));
  malformed(text.replace('"data":[', '"data":[0,'));
  malformed(text.replace('"data":[155', '"data":[256'));
  malformed(text.replace('"data":[155', '"data":["155"'));
  malformed(text.replace('"cc_eventlog":null', '"cc_eventlog":"*"'));
  malformed(text.replace('"cc_eventlog":null', '"cc_eventlog":7'));
});

test("text cut anywhere is malformed (every 401st length)", { skip }, () => {
  const { evidence } = trustee("csv-v1-full-chain");
  for (let length = 0; length < evidence.byteLength - 1; length += 401) {
    assert.equal(
      verifyCsv({ evidence: evidence.subarray(0, length) }).outcome,
      "malformed",
      `${length} bytes`,
    );
  }
});
