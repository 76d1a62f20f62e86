import assert from "node:assert/strict";
import { createHash, createHmac, randomBytes } from "node:crypto";
import { test } from "node:test";
import { type Answer, ask, type Bend, detail, Guest, type Session, variant } from "./support/guest.ts";
import { authority, known, reference, running } from "./support/running.ts";
import { bootEvents, SoftTpm } from "./support/soft-tpm.ts";

const NONE = "00".repeat(32);

/** Each alters one thing of a guest that is otherwise right; beside it, what the refusal must name. */
const BENT: readonly [string, (guest: Guest, session: Session) => Bend, RegExp][] = [
  [
    "another nonce in the runtime data",
    () => ({ nonce: randomBytes(32).toString("base64") }),
    /session-nonce: /,
  ],
  [
    "an altered public key",
    (guest) => ({ teeKey: new Guest(guest.base, guest.tpm).teeKey }),
    /quote-nonce: /,
  ],
  ["a quote over something else", () => ({ quoted: randomBytes(32) }), /quote-nonce: /],
  [
    "a quote over longer data that begins right",
    (guest, s) => ({ quoted: guest.reportData(s.nonce) }),
    /quote-nonce: /,
  ],
  ["a missing event", (guest) => ({ events: guest.tpm.events.slice(0, -1) }), /eventlog-replay/],
  [
    "an added event",
    (guest) => ({ events: [...guest.tpm.events, { pcr: 9, type: 0x6, data: Buffer.from("x") }] }),
    /eventlog-replay/,
  ],
  [
    "an altered event",
    (guest) => ({ events: guest.tpm.events.map((e, i) => (i === 0 ? { ...e, data: Buffer.from("x") } : e)) }),
    /eventlog-replay/,
  ],
  ["events in another order", (guest) => ({ events: [...guest.tpm.events].reverse() }), /eventlog-replay/],
  ["no event log", () => ({ evidence: { event_log: undefined } }), /eventlog: no event log/],
  [
    "a log silent about the initrd",
    (guest) => ({ events: guest.tpm.events.filter((e) => e.pcr !== 9) }),
    /eventlog-coverage: the event log has no events of PCR 9/,
  ],
  [
    "a report nobody measured",
    () => ({ evidence: { guest_report: "ROOT_ALTERED: x" } }),
    /guest-report: the guest sends a report that it did not measure/,
  ],
  [
    "a quote without the PCR of reports",
    () => ({ selected: [0, 2, 4, 7, 9] }),
    /guest-report: PCR 12.* was not quoted/,
  ],
  ["no activation", () => ({ activation: null }), /ak-activation: /],
  ["a wrong activation", () => ({ activation: randomBytes(32) }), /ak-activation: /],
  ["a short activation", () => ({ activation: Buffer.alloc(0) }), /ak-activation: /],
  [
    "an activation of another session's report data",
    (guest, s) => ({
      activation: createHmac("sha256", guest.secret(s)).update(guest.reportData("other")).digest(),
    }),
    /ak-activation: /,
  ],
  [
    "PCR values that were not quoted",
    (guest) => ({ evidence: { tpm_quote: { ...quoteOf(guest), pcrs: Array(24).fill(NONE) } } }),
    /tpm_quote|quote-|pcr/i,
  ],
  [
    "a quote that leaves the kernel's PCR out",
    () => ({ selected: [0, 2, 7, 9, 12] }),
    /PCR 4 .*claimed not quoted/,
  ],
  [
    "no endorsement certificate",
    () => ({ evidence: { ek_certificate: undefined } }),
    /ek-certificate: no endorsement/,
  ],
  ["no public area", () => ({ evidence: { ak_tpm_public: undefined } }), /ak-name: /],
  ["empty evidence", () => ({ message: withEvidence({}) }), /tpm_quote is missing/],
  ["evidence that is a list", () => ({ message: withEvidence([]) }), /tpm_quote is missing/],
  [
    "init-data",
    () => ({ message: (body) => ({ ...body, "init-data": { format: "toml", body: "a=1" } }) }),
    /init-data: /,
  ],
  [
    "evidence of another device",
    () => ({ message: withAdditional('{"nvidia":{}}') }),
    /additional-evidence: /,
  ],
];

function withEvidence(evidence: unknown) {
  return (body: Record<string, unknown>) => ({
    ...body,
    "tee-evidence": { primary_evidence: evidence, additional_evidence: "" },
  });
}

function withAdditional(text: string) {
  return (body: Record<string, unknown>) => ({
    ...body,
    "tee-evidence": { ...(body["tee-evidence"] as object), additional_evidence: text },
  });
}

function quoteOf(guest: Guest) {
  const { message, signature } = guest.tpm.quote(Buffer.alloc(32));
  return { message: message.toString("base64"), signature: signature.toString("base64") };
}

function refused(answer: Answer, reason: RegExp): void {
  assert.equal(answer.status, 401, answer.body.toString());
  assert.equal(variant(answer), "AttestationError");
  assert.match(detail(answer), reason);
}

test("one thing altered at a time: each is refused with its name, and no secret follows", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  for (const [name, bend, reason] of BENT) {
    await t.test(name, async () => {
      const guest = new Guest(run.url, tpm);
      const session = await guest.auth();
      refused(await guest.attest(session, bend(guest, session)), reason);
      assert.equal((await guest.resource("default/key/app", { cookie: session.cookie })).status, 401);
      // The nonce is spent: the right evidence is too late now.
      refused(await guest.attest(session), /replayed/);
    });
  }
  // Known good, at the end of it all: the refusals above were not for some other reason.
  await new Guest(run.url, tpm).handshake();
  assert.equal((await run.admin.auditVerify()).ok, true);
});

test("replayed evidence is refused, in its own session and in another", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const session = await guest.auth();
  const body = JSON.stringify(guest.attestBody(session));
  assert.equal((await guest.send(session.cookie, body)).status, 200);
  refused(await guest.send(session.cookie, body), /session-nonce: replayed/);
  const other = await guest.auth();
  refused(
    await guest.send(other.cookie, body),
    /session-nonce: runtime-data carries another session's nonce.*quote-nonce/,
  );
});

test("of many attempts at once on one nonce, one is judged", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const session = await guest.auth();
  const body = JSON.stringify(guest.attestBody(session));
  const answers = await Promise.all(Array.from({ length: 10 }, () => guest.send(session.cookie, body)));
  assert.equal(answers.filter((a) => a.status === 200).length, 1);
});

test("a session is nobody else's", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const mine = await guest.auth();
  const other = await new Guest(run.url, tpm).auth();
  // Right evidence for my nonce under another's cookie.
  refused(await guest.send(other.cookie, JSON.stringify(guest.attestBody(mine))), /session-nonce/);
  refused(await guest.send("0".repeat(32), JSON.stringify(guest.attestBody(mine))), /session: unknown/);
  refused(await ask(run.url, "/kbs/v0/attest", { method: "POST", body: "{}" }), /no kbs-session-id cookie/);
  const two = `kbs-session-id=${mine.cookie}; kbs-session-id=${other.cookie}`;
  refused(
    await ask(run.url, "/kbs/v0/attest", { method: "POST", body: "{}", headers: { cookie: two } }),
    /no kbs-session-id cookie/,
  );
  // A cookie that never attested fetches nothing.
  const fresh = await guest.auth();
  const answer = await guest.resource("default/key/app", { cookie: fresh.cookie });
  assert.equal(variant(answer), "TokenNotFound");
  assert.match(detail(answer), /session is open/);
});

test("time ends an unanswered session, an attested one and a token", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const late = await guest.auth();
  const { session, token } = await guest.handshake();
  run.time.pass(5 * 60_000 - 1000);
  assert.equal((await guest.resource("default/key/app", { token })).status, 200);
  run.time.pass(1001);
  refused(await guest.attest(late), /session: (unknown or )?expired/);
  const byToken = await guest.resource("default/key/app", { token });
  assert.equal(variant(byToken), "TokenVerifierError");
  assert.match(detail(byToken), /exp/);
  assert.match(detail(await guest.resource("default/key/app", { cookie: session.cookie })), /expired/);
});

test("a TPM of another maker, an expired or a forged endorsement certificate is refused", async (t) => {
  const run = await running(t);
  await known(run, run.tpm());
  const stranger = authority("test EK root"); // the same name, another key
  for (const [tpm, reason] of [
    [new SoftTpm({ ca: stranger.issuer }), /ek-(anchor|signature)/],
    [new SoftTpm({ ca: run.ca.issuer, to: new Date("2026-02-01T00:00:00Z") }), /ek-validity/],
    [new SoftTpm({ ca: run.ca.issuer, from: new Date("2027-01-01T00:00:00Z") }), /ek-validity/],
    // Unrestricted: such a key would sign a quote somebody made up.
    [new SoftTpm({ ca: run.ca.issuer, akAttributes: 0x0004_0072 }), /ak-attributes: .*lacks restricted/],
    // Not fixed to its TPM: a copy may be anywhere.
    [new SoftTpm({ ca: run.ca.issuer, akAttributes: 0x0005_0060 }), /ak-attributes: .*lacks fixedTPM/],
  ] as const) {
    const guest = new Guest(run.url, tpm);
    const session = await guest.auth();
    refused(await guest.attest(session), reason);
  }
});

test("the key that quotes must be the key that was activated, in the TPM it was activated for", async (t) => {
  const run = await running(t);
  const good = run.tpm();
  await known(run, good);
  const guest = new Guest(run.url, good);
  // A real TPM opens the challenge; the evidence is of a key somebody made outside of it.
  const session = await guest.auth();
  const forged = new Guest(run.url, new SoftTpm({ ca: authority().issuer }));
  const body = forged.attestBody(session, {
    activation: createHmac("sha256", guest.secret(session)).update(forged.reportData(session.nonce)).digest(),
    evidence: { ek_certificate: good.ekCertificate.toString("base64") },
  });
  refused(
    await forged.send(session.cookie, JSON.stringify(body)),
    /ak-name: the credential was made for another attestation key/,
  );
  // Another TPM's endorsement certificate in the evidence than in the challenge.
  const second = await guest.auth();
  const swapped = { evidence: { ek_certificate: run.tpm().ekCertificate.toString("base64") } };
  refused(await guest.attest(second, swapped), /ek-certificate: the credential was made for another/);
});

test("without trust anchors, and without activation in /auth, a TPM is refused by name", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  const guest = new Guest(run.url, tpm);
  refused(await guest.attest(await guest.auth()), /ek-anchor: no trust anchor/);
  await known(run, tpm);
  // As Trustee's own client would ask.
  const session = await guest.auth({ version: "0.4.0", tee: "tpm", "extra-params": "" });
  assert.equal(session.extra, "");
  refused(
    await guest.attest(session, { activation: randomBytes(32) }),
    /ak-activation: \/auth carried no extra-params\.tpm/,
  );
  await run.admin.deleteTrustAnchor((await run.admin.listTrustAnchors())[0]?.id ?? "");
  refused(await guest.attest(await guest.auth()), /ek-anchor: no trust anchor/);
});

test("other TEEs, the sample one first, are refused by name", async (t) => {
  const run = await running(t);
  for (const tee of ["sample", "sampledevice", "snp", "tdx", "sgx", "csv", "az-snp-vtpm", "nvidia"]) {
    const answer = await ask(run.url, "/kbs/v0/auth", {
      method: "POST",
      body: JSON.stringify({ version: "0.4.0", tee, "extra-params": "" }),
    });
    refused(answer, new RegExp(`PLATFORM_UNSUPPORTED: tee ${tee} `));
  }
});

test("a reference value altered by the administrator refuses what it let in before", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  await new Guest(run.url, tpm).handshake();
  const [value] = await run.admin.listReferences("demo");
  assert.ok(value);
  await run.admin.deleteReference({ id: value.id });
  const altered = {
    ...value.pcrs,
    "9": `${(value.pcrs["9"] ?? "").slice(0, 63)}${value.pcrs["9"]?.endsWith("0") ? "1" : "0"}`,
  };
  await run.admin.putReference({
    version: 1,
    workload: "demo",
    image: value.image,
    values: [{ platform: "vtpm", shape: value.shape, pcrs: altered }],
  });
  const guest = new Guest(run.url, tpm);
  refused(await guest.attest(await guest.auth()), /initrd and kernel command line differs \(PCR 9\)/);
});

test("a boot log that lies about a component is not believed", async (t) => {
  const run = await running(t);
  const tpm = run.tpm({ events: bootEvents({ kernel: "evil" }) });
  await known(run, run.tpm());
  const guest = new Guest(run.url, tpm);
  refused(await guest.attest(await guest.auth(), { events: bootEvents() }), /eventlog-replay/);
});

test("a guest that reports what it found is refused with its own words, and only with those it measured", async (t) => {
  const run = await running(t);
  const clean = run.tpm();
  await known(run, clean);
  const report = "ROOT_ALTERED: block 17 of the root is not what was sealed";
  const tpm = run.tpm();
  // The guest extends PCR 12 with the digest of the text; the firmware's log knows nothing of it.
  tpm.extend(12, createHash("sha256").update(report).digest());
  const guest = new Guest(run.url, tpm);
  const attest = async (text: string | undefined) =>
    guest.attest(await guest.auth(), { evidence: { guest_report: text } });
  refused(
    await attest(report),
    /guest-report: the guest reports ROOT_ALTERED: block 17 of the root is not what was sealed/,
  );
  refused(await attest("ROOT_ALTERED: block 18"), /PCR 12 was extended, and not with what the guest reports/);
  refused(await attest(undefined), /PCR 12 was extended, and not with/);
  const hidden = "BELL: \u0007\u001b[31m";
  const rude = run.tpm();
  rude.extend(12, createHash("sha256").update(hidden).digest());
  const other = new Guest(run.url, rude);
  const answer = await other.attest(await other.auth(), { evidence: { guest_report: hidden } });
  refused(answer, /guest reports BELL: /);
  assert.doesNotMatch(detail(answer), /[\u0007\u001b]/);
});

test("a reference value with its events tells which component differs", async (t) => {
  const run = await running(t);
  const good = run.tpm();
  await known(run, good);
  await run.admin.deleteReference({ workload: "demo" });
  const document = reference("demo", good);
  const words = ["command line", "initrd"];
  const events = good.events
    .filter((e) => e.pcr === 9)
    .map((e, i) => ({
      pcr: 9,
      digest: (e.digest ?? createHash("sha256").update(e.data).digest()).toString("hex"),
      what: words[i] ?? "",
    }));
  await run.admin.putReference({ ...document, values: [{ ...document.values[0], events }] });
  await new Guest(run.url, good).handshake();
  for (const [part, word] of [
    ["initrd", "initrd"],
    ["cmdline", "command line"],
  ] as const) {
    const guest = new Guest(run.url, run.tpm({ events: bootEvents({ [part]: "altered" }) }));
    refused(await guest.attest(await guest.auth()), new RegExp(`PCR 9 .*differs: not the expected ${word};`));
  }
});
