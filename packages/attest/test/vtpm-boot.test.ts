import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import {
  bootClaims,
  CheckList,
  checkContents,
  checkReferences,
  checkReplay,
  type ExpectedEvent,
  explainLog,
  type PcrReference,
  parseEventLog,
} from "@shelter/attest";
import { fromHex, toHex } from "@shelter/base";

/** A real boot: OVMF, a kernel given to QEMU directly, a TPM in software. */
const BOOT = JSON.parse(readFileSync(join(import.meta.dirname, "fixtures/vtpm-boot.json"), "utf8")) as {
  readonly log: string;
  readonly pcrs: Readonly<Record<string, string>>;
};
const LOG = parseEventLog(new Uint8Array(Buffer.from(BOOT.log, "base64")));
const VALUES = new Map(Object.entries(BOOT.pcrs).map(([pcr, value]) => [Number(pcr), fromHex(value)]));
const PCRS = Object.fromEntries([0, 2, 4, 7, 9].map((pcr) => [pcr, BOOT.pcrs[pcr] ?? ""]));
const EVENTS: ExpectedEvent[] = explainLog(LOG).map(({ event, component }) => ({
  pcr: event.pcr,
  digest: toHex(event.digests.get("sha256") ?? new Uint8Array()),
  what: component,
}));

function judge(...references: PcrReference[]): { ok: boolean; details: string[] } {
  const checks = new CheckList();
  const quoted = [{ hash: "sha256" as const, pcrs: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9] }];
  const ok = checkReferences(references, quoted, new Map([["sha256", VALUES]]), LOG, checks);
  return { ok, details: checks.checks.filter((c) => !c.ok).map((c) => c.detail ?? "") };
}

/** The reference as it would be for another digest of one component: its PCR and its event differ. */
function other(component: string): PcrReference {
  const pcr = EVENTS.find((e) => e.what === component)?.pcr ?? -1;
  return {
    pcrs: { ...PCRS, [pcr]: "5a".repeat(32) },
    events: EVENTS.map((e) => (e.what === component ? { ...e, digest: "a5".repeat(32) } : e)),
  };
}

test("replays to the PCRs of the TPM, and says what booted", () => {
  const checks = new CheckList();
  assert.equal(checkReplay(LOG, "sha256", VALUES, checks), true);
  assert.equal(checkContents(LOG, checks), true);
  assert.deepEqual(bootClaims(LOG), { secureBoot: false, firmwareVersion: "0000", commandLine: undefined });
  const words = explainLog(LOG).filter((e) => ["kernel", "initrd", "command line"].includes(e.component));
  assert.deepEqual(
    words.map((e) => [e.event.pcr, e.component, e.text]),
    [
      [4, "kernel", "EFI application given by QEMU/kernel"],
      [9, "command line", "kernel command line (LOADED_IMAGE::LoadOptions)"],
      [9, "initrd", "initrd (Linux initrd)"],
    ],
  );
});

test("accepts the state that booted, also among others", () => {
  assert.deepEqual(judge({ pcrs: PCRS }), { ok: true, details: [] });
  assert.equal(judge(other("kernel"), { pcrs: PCRS }).ok, true);
});

for (const [component, detail] of [
  [
    "kernel",
    "PCR 4 (boot loader and kernel) differs: not the expected kernel; measured instead: kernel: EFI application given by QEMU/kernel",
  ],
  [
    "initrd",
    "PCR 9 (initrd and kernel command line) differs: not the expected initrd; measured instead: initrd (Linux initrd)",
  ],
  [
    "command line",
    "PCR 9 (initrd and kernel command line) differs: not the expected command line; measured instead: kernel command line (LOADED_IMAGE::LoadOptions)",
  ],
] as const) {
  test(`says that it was the ${component}`, () => {
    assert.deepEqual(judge(other(component)), { ok: false, details: [detail] });
  });
}

test("says that it was the firmware, or secure boot", () => {
  assert.match(
    judge(other("firmware")).details[0] ?? "",
    /^PCR 0 \(firmware\) differs: not the expected firmware; /,
  );
  assert.match(
    judge(other("secure boot")).details[0] ?? "",
    /^PCR 7 \(secure boot\) differs: not the expected secure/,
  );
});

test("without a prediction, lists what was measured into the register", () => {
  const { details } = judge({ pcrs: { ...PCRS, 9: "5a".repeat(32) } });
  assert.deepEqual(details, [
    "PCR 9 (initrd and kernel command line) differs: measured there are kernel command line (LOADED_IMAGE::LoadOptions); initrd (Linux initrd)",
  ]);
});
