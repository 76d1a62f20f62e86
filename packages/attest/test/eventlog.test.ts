import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import {
  bootClaims,
  CheckList,
  checkContents,
  checkReplay,
  contentState,
  EVENT,
  explainLog,
  parseEventLog,
  replay,
} from "@shelter/attest";
import { toHex } from "@shelter/base";
import { corpusAbsent, corpusFile, corpusItems } from "./snp-corpus.ts";

/** Logs written byte by byte. */
interface Entry {
  readonly pcr: number;
  readonly type: number;
  readonly data: Uint8Array;
  /** What is digested; default the data. */
  readonly of?: Uint8Array;
}

const sha256 = (...parts: Uint8Array[]): Buffer => {
  const h = createHash("sha256");
  for (const part of parts) h.update(part);
  return h.digest();
};

function u32(n: number): Buffer {
  const out = Buffer.alloc(4);
  out.writeUInt32LE(n);
  return out;
}

function header(): Buffer {
  const spec = Buffer.concat([
    Buffer.from("Spec ID Event03\0"),
    u32(0),
    Buffer.from([0, 2, 0, 2]),
    u32(1),
    Buffer.from([0x0b, 0, 32, 0]),
    Buffer.from([0]),
  ]);
  return Buffer.concat([u32(0), u32(EVENT.NO_ACTION), Buffer.alloc(20), u32(spec.length), spec]);
}

function agile(entry: Entry): Buffer {
  const digest = entry.type === EVENT.NO_ACTION ? Buffer.alloc(32) : sha256(entry.of ?? entry.data);
  return Buffer.concat([
    u32(entry.pcr),
    u32(entry.type),
    u32(1),
    Buffer.from([0x0b, 0]),
    digest,
    u32(entry.data.length),
    entry.data,
  ]);
}

function log(...entries: readonly Entry[]): Buffer {
  return Buffer.concat([header(), ...entries.map(agile)]);
}

function variable(name: string, value: Uint8Array): Buffer {
  const lengths = Buffer.alloc(16);
  lengths.writeBigUInt64LE(BigInt(name.length), 0);
  lengths.writeBigUInt64LE(BigInt(value.length), 8);
  const global = Buffer.from("61dfe48bca93d211aa0d00e098032b8c", "hex");
  return Buffer.concat([global, lengths, Buffer.from(name, "utf16le"), value]);
}

const SEPARATOR: Entry = { pcr: 4, type: EVENT.SEPARATOR, data: Buffer.alloc(4) };
const VERSION: Entry = { pcr: 0, type: EVENT.S_CRTM_VERSION, data: Buffer.from("fw 1\0", "utf16le") };
const SECURE: Entry = {
  pcr: 7,
  type: EVENT.EFI_VARIABLE_DRIVER_CONFIG,
  data: variable("SecureBoot", Uint8Array.of(1)),
};
const TAG = (id: number, text: string): Buffer =>
  Buffer.concat([u32(id), u32(text.length), Buffer.from(text)]);

test("replays a log from zeros, and from its startup locality", () => {
  const registers = replay(parseEventLog(log(VERSION, SEPARATOR)), "sha256");
  assert.deepEqual([...registers.keys()], [0, 4]);
  assert.equal(
    toHex(registers.get(4) ?? new Uint8Array()),
    toHex(sha256(Buffer.alloc(32), sha256(Buffer.alloc(4)))),
  );
  const locality: Entry = { pcr: 0, type: EVENT.NO_ACTION, data: Buffer.from("StartupLocality\0\x03") };
  const parsed = parseEventLog(log(locality, VERSION));
  assert.equal(parsed.startupLocality, 3);
  const start = Buffer.alloc(32);
  start[31] = 3;
  assert.equal(
    toHex(replay(parsed, "sha256").get(0) ?? new Uint8Array()),
    toHex(sha256(start, sha256(VERSION.data))),
  );
});

test("notices an event removed, added, swapped or with another digest", () => {
  const genuine = parseEventLog(
    log(VERSION, SECURE, SEPARATOR, { ...SEPARATOR, data: Buffer.alloc(4, 0xff) }),
  );
  const values = replay(genuine, "sha256");
  const judge = (bytes: Uint8Array): boolean =>
    checkReplay(parseEventLog(bytes), "sha256", values, new CheckList());
  const ones: Entry = { ...SEPARATOR, data: Buffer.alloc(4, 0xff) };
  assert.equal(judge(log(VERSION, SECURE, SEPARATOR, ones)), true);
  assert.equal(judge(log(VERSION, SECURE, SEPARATOR)), false);
  assert.equal(judge(log(VERSION, SECURE, ones, SEPARATOR)), false);
  assert.equal(judge(log(VERSION, SECURE, SEPARATOR, ones, ones)), false);
  assert.equal(judge(log(VERSION, SECURE, { ...SEPARATOR, of: Buffer.from("x") }, ones)), false);
  assert.equal(judge(log(SECURE, SEPARATOR, ones)), false, "all events of PCR 0 removed");
  // A log about no register anyone vouches for shows nothing.
  assert.equal(judge(log({ ...SEPARATOR, pcr: 9 })), false);
});

test("believes no data that its digest does not cover", () => {
  const states = (...entries: Entry[]): string[] => parseEventLog(log(...entries)).events.map(contentState);
  assert.deepEqual(states(VERSION, SECURE, SEPARATOR), ["verified", "verified", "verified"]);
  const forged = {
    ...SECURE,
    data: variable("SecureBoot", Uint8Array.of(1)),
    of: variable("SecureBoot", Uint8Array.of(0)),
  };
  assert.deepEqual(states(forged, { ...VERSION, of: Buffer.from("fw 2") }), ["mismatch", "mismatch"]);
  const parsed = parseEventLog(log(forged));
  assert.equal(bootClaims(parsed).secureBoot, undefined);
  const checks = new CheckList();
  assert.equal(checkContents(parsed, checks), false);
  assert.equal(checks.verdict("x", {}).outcome, "refused");
  assert.match(checks.checks[0]?.detail ?? "", /event 0 \(EV_EFI_VARIABLE_DRIVER_CONFIG, register 7\)/);
});

test("reads secure boot from the first event of a PCR 7 that is vouched for, and from nowhere else", () => {
  const state = (entries: Entry[], vouched?: number[]): boolean | undefined =>
    bootClaims(parseEventLog(log(...entries)), vouched && new Set(vouched)).secureBoot;
  const off = { ...SECURE, data: variable("SecureBoot", Uint8Array.of(0)) };
  assert.equal(state([VERSION, SECURE, SEPARATOR]), true);
  assert.equal(state([off]), false);
  assert.equal(state([off, SECURE]), false, "a later event by whoever ran later");
  assert.equal(
    state([{ ...off, type: EVENT.IPL }, SECURE]),
    undefined,
    "the type of an event is not measured",
  );
  assert.equal(state([{ ...SECURE, pcr: 8 }]), undefined);
  assert.equal(state([SECURE], [0, 4]), undefined, "nobody vouches for PCR 7");
  assert.equal(state([SECURE], [7]), true);
});

test("reads GRUB's texts with and without their zero, and only behind its prefixes", () => {
  const ipl = (text: string, of: string): Entry => ({
    pcr: 8,
    type: EVENT.IPL,
    data: Buffer.from(text),
    of: Buffer.from(of),
  });
  const parsed = parseEventLog(
    log(
      ipl("kernel_cmdline: /vmlinuz root=/dev/vda\0", "/vmlinuz root=/dev/vda"),
      ipl("grub_cmd: set x=1\0", "set x=1\0"),
      ipl("grub_cmd: set x=1\0", "set x=2"),
      ipl("/boot/grub.cfg\0", "content of a file"),
    ),
  );
  assert.deepEqual(parsed.events.map(contentState), ["verified", "verified", "mismatch", "unverifiable"]);
  assert.equal(bootClaims(parsed).commandLine, "/vmlinuz root=/dev/vda");
});

test("names firmware, secure boot, kernel, initrd and command line in words", () => {
  const path = Buffer.concat([
    Buffer.from([4, 4, 4 + 16, 0]),
    Buffer.from("\\kernel\0", "utf16le"),
    Buffer.from([0x7f, 0xff, 4, 0]),
  ]);
  const image = Buffer.concat([Buffer.alloc(24), Buffer.alloc(8), path]);
  image.writeBigUInt64LE(BigInt(path.length), 24);
  const explained = explainLog(
    parseEventLog(
      log(
        VERSION,
        SECURE,
        { pcr: 4, type: EVENT.EFI_BOOT_SERVICES_APPLICATION, data: image, of: Buffer.from("pe") },
        {
          pcr: 9,
          type: EVENT.EVENT_TAG,
          data: TAG(0x8f3b22ed, "LOADED_IMAGE::LoadOptions\0"),
          of: Buffer.from("c"),
        },
        { pcr: 9, type: EVENT.EVENT_TAG, data: TAG(0x8f3b22ec, "Linux initrd\0"), of: Buffer.from("i") },
      ),
    ),
  );
  assert.deepEqual(
    explained.map((e) => [e.component, e.text]),
    [
      ["firmware", 'firmware version "fw 1"'],
      ["secure boot", "secure boot is on"],
      ["kernel", "EFI application \\kernel"],
      ["command line", "kernel command line (LOADED_IMAGE::LoadOptions)"],
      ["initrd", "initrd (Linux initrd)"],
    ],
  );
});

test("refuses a log cut at any length but between events, and takes padding only as padding", () => {
  const whole = log(VERSION, SECURE, SEPARATOR);
  const ends = new Set([header().length]);
  let end = header().length;
  for (const entry of [VERSION, SECURE, SEPARATOR]) {
    end += agile(entry).length;
    ends.add(end);
  }
  for (let i = 0; i <= whole.length; i++) {
    if (ends.has(i)) assert.doesNotThrow(() => parseEventLog(whole.subarray(0, i)));
    else assert.throws(() => parseEventLog(whole.subarray(0, i)), { kind: "malformed" }, `cut at ${i}`);
  }
  assert.equal(parseEventLog(Buffer.concat([whole, Buffer.alloc(100, 0xff)])).parsedBytes, whole.length);
  assert.equal(parseEventLog(Buffer.concat([whole, Buffer.alloc(100)])).events.length, 3);
  assert.throws(() => parseEventLog(Buffer.concat([whole, Buffer.alloc(20)])), { kind: "malformed" });
  assert.throws(() => parseEventLog(Buffer.concat([whole, Buffer.alloc(100, 0xff), u32(1)])), {
    kind: "malformed",
  });
});

test("refuses digests the header does not name, twice, or of a wrong size", () => {
  const event = agile(SEPARATOR);
  event[12] = 0x0c;
  assert.throws(
    () => parseEventLog(Buffer.concat([header(), event])),
    /algorithm 0xc, not named in the header/,
  );
  const many = agile(SEPARATOR);
  many[8] = 2;
  assert.throws(() => parseEventLog(Buffer.concat([header(), many])), /has 2 digests, the header names 1/);
  const head = header();
  head[head.indexOf(Buffer.from([0x0b, 0, 32, 0])) + 2] = 20;
  assert.throws(() => parseEventLog(Buffer.concat([head, event])), /digest of 20 bytes for algorithm 0xb/);
});

test("replays every log of the corpus to its known registers", { skip: corpusAbsent ?? false }, () => {
  let compared = 0;
  for (const item of corpusItems("tpm", "event-log")) {
    const fields = item.expected.fields as Record<string, Record<string, Record<string, string>>> | undefined;
    const file = corpusFile(item, "log");
    const known = fields?.["pcrs_from_upstream_test"];
    if (file === undefined || known === undefined) continue;
    const parsed = parseEventLog(file);
    for (const [bank, values] of Object.entries(known)) {
      const registers = replay(parsed, bank as "sha256");
      for (const [pcr, value] of Object.entries(values)) {
        assert.equal(
          toHex(registers.get(Number(pcr)) ?? new Uint8Array()),
          value,
          `${item.id} ${bank} ${pcr}`,
        );
        compared++;
      }
    }
    assert.equal(checkContents(parsed, new CheckList()), true, item.id);
  }
  assert.ok(compared > 100);
});
