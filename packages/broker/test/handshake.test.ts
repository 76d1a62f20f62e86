import assert from "node:assert/strict";
import { test } from "node:test";
import { Broker, createApp, tpmPlatform } from "@shelter/broker";
import { ask, detail, Guest, json, variant } from "./support/guest.ts";
import { known, reference, running } from "./support/running.ts";
import { bootEvents } from "./support/soft-tpm.ts";

for (const ekKind of ["ec", "rsa"] as const) {
  for (const kind of ["P-256", "P-521", "RSA"] as const) {
    test(`a known guest with an ${ekKind} endorsement key and a ${kind} key receives its secret`, async (t) => {
      const run = await running(t);
      const tpm = run.tpm({ ekKind });
      await known(run, tpm);
      const guest = new Guest(run.url, tpm, kind);
      const { session, token } = await guest.handshake();
      for (const by of [{ cookie: session.cookie }, { token }]) {
        const answer = await guest.resource("default/key/app", by);
        assert.equal(answer.status, 200, answer.body.toString());
        assert.equal((await guest.open(answer)).toString(), "the secret");
      }
    });
  }
}

test("the token has Trustee's claims and nothing about other workloads", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const { token, session } = await guest.handshake();
  const [header, claims] = token
    .split(".")
    .slice(0, 2)
    .map((part) => JSON.parse(Buffer.from(part, "base64url").toString()) as Record<string, unknown>);
  assert.equal(header?.["alg"], "ES256");
  assert.equal(header?.["typ"], "JWT");
  assert.deepEqual(Object.keys(header?.["jwk"] as object).sort(), ["alg", "crv", "kty", "x", "y"]);
  assert.equal(claims?.["iss"], "CoCo-Attestation-Service");
  assert.equal(claims?.["eat_profile"], "tag:github.com,2024:confidential-containers/Trustee");
  assert.equal(Number(claims?.["exp"]) - Number(claims?.["iat"]), 300);
  const submods = claims?.["submods"] as Record<string, Record<string, unknown>> | undefined;
  const cpu0 = submods?.["cpu0"];
  assert.equal(cpu0?.["ear.status"], "affirming");
  const evidence = cpu0?.["ear.veraison.annotated-evidence"] as Record<string, Record<string, unknown>>;
  assert.deepEqual(evidence["runtime_data_claims"], { nonce: session.nonce, "tee-pubkey": guest.teeKey });
  assert.equal(evidence["tpm"]?.["pcr04"], tpm.pcrs[4]?.toString("hex"));
});

test("without a matching reference value there is no token, and the differing parts are named", async (t) => {
  const run = await running(t);
  await known(run, run.tpm());
  for (const [part, pcr, word] of [
    ["kernel", 4, "kernel"],
    ["initrd", 9, "initrd"],
    ["cmdline", 9, "command line"],
    ["firmware", 0, "firmware"],
  ] as const) {
    const guest = new Guest(run.url, run.tpm({ events: bootEvents({ [part]: "altered" }) }));
    const session = await guest.auth();
    const answer = await guest.attest(session);
    assert.equal(answer.status, 401);
    assert.equal(variant(answer), "AttestationError");
    assert.match(detail(answer), /unknown measurement; the nearest workload is demo/);
    assert.match(detail(answer), new RegExp(`${word}.*PCR ${pcr}`));
    assert.equal((await guest.resource("default/key/app", { cookie: session.cookie })).status, 401);
  }
});

test("several images and shapes of one workload all match until they are removed", async (t) => {
  const run = await running(t);
  const first = run.tpm();
  const second = run.tpm({ events: bootEvents({ initrd: "version 2" }) });
  await known(run, first);
  await run.admin.putReference(reference("demo", second, "b"));
  for (const tpm of [first, second]) await new Guest(run.url, tpm).handshake();
  assert.equal(await run.admin.deleteReference({ workload: "demo", image: `sha256:${"a".repeat(64)}` }), 1);
  await new Guest(run.url, second).handshake();
  const guest = new Guest(run.url, first);
  assert.match(detail(await guest.attest(await guest.auth())), /initrd/);
});

test("removing a reference value, a policy or the session stops a guest that already attested", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const { token, session } = await guest.handshake();
  const get = () => guest.resource("default/key/app", { token });
  assert.equal((await get()).status, 200);
  await run.admin.revoke("demo", "kbs:///default/key/*");
  assert.match(detail(await get()), /no policy allows demo kbs:\/\/\/default\/key\/app/);
  await run.admin.allow("demo", "kbs:///default/key/app");
  assert.equal((await get()).status, 200);
  await run.admin.deleteReference({ workload: "demo" });
  const taken = await get();
  assert.equal(variant(taken), "PolicyDeny");
  assert.match(detail(taken), /no reference value is registered/);
  await run.admin.putReference(reference("demo", tpm));
  assert.equal((await get()).status, 200);
  const [newest] = await run.admin.sessions(1);
  await run.admin.revokeSession(newest?.id ?? "");
  assert.match(detail(await get()), /session is revoked/);
  assert.equal((await guest.resource("default/key/app", { cookie: session.cookie })).status, 401);
});

test("what a guest may not have and what does not exist answer alike", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  await run.admin.putSecret("kbs:///other/key/app", Buffer.from("not for demo"));
  const guest = new Guest(run.url, tpm);
  const { token } = await guest.handshake();
  const there = await guest.resource("other/key/app", { token });
  const absent = await guest.resource("other/key/nil", { token });
  assert.equal(there.status, 401);
  assert.equal(there.status, absent.status);
  assert.equal(there.body.toString(), absent.body.toString().replace("other/key/nil", "other/key/app"));
  assert.equal(variant(there), "PolicyDeny");
  // What it may have and is not there is another matter: the name is its own to know.
  const missing = await guest.resource("default/key/nil", { token });
  assert.equal(missing.status, 404);
  assert.equal(variant(missing), "ResourceNotFound");
  // And nobody at all learns nothing at all.
  for (const path of ["default/key/app", "other/key/app", "no/such/thing"]) {
    const answer = await ask(run.url, `/kbs/v0/resource/${path}`);
    assert.equal(answer.status, 401);
    assert.equal(answer.body.toString(), (await ask(run.url, "/kbs/v0/resource/x/y/z")).body.toString());
  }
});

test("a session explains itself: every check, the decision, and what was released to which key", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const { token } = await guest.handshake();
  await guest.resource("default/key/app", { token });
  await guest.resource("other/key/app", { token });
  const [summary] = await run.admin.sessions();
  const told = await run.admin.explain(summary?.id.slice(0, 8) ?? "");
  assert.equal(told.state, "attested");
  assert.deepEqual(told.workloads, ["demo"]);
  assert.ok(told.checks.length >= 10);
  assert.ok(told.checks.every((check) => check.ok));
  const names = told.checks.map((check) => check.name);
  for (const name of [
    "session-nonce",
    "quote-signature",
    "quote-nonce",
    "ak-activation",
    "eventlog-replay",
    "reference-values",
  ]) {
    assert.ok(names.includes(name), `${name} in ${names.join(" ")}`);
  }
  assert.match(told.keyThumbprint ?? "", /^[A-Za-z0-9_-]{43}$/);
  assert.deepEqual(
    told.releases.map((r) => [r.path, r.outcome, r.version]),
    [
      ["default/key/app", "released", 1],
      ["other/key/app", "refused", null],
    ],
  );
  const refused = new Guest(run.url, run.tpm({ events: bootEvents({ kernel: "x" }) }));
  await refused.attest(await refused.auth());
  const [latest] = await run.admin.sessions(1);
  assert.equal(latest?.state, "refused");
  const why = await run.admin.explain(latest?.id ?? "");
  assert.equal(why.nearest?.workload, "demo");
  assert.deepEqual(
    why.nearest?.differs.map((d) => d.pcr),
    [4],
  );
  assert.equal(why.nearest?.differs[0]?.expected, tpm.pcrs[4]?.toString("hex"));
});

test("an operator may keep the reason of a refusal from the client", async (t) => {
  const run = await running(t, { terseRefusals: true });
  await known(run, run.tpm());
  const guest = new Guest(run.url, run.tpm({ events: bootEvents({ kernel: "x" }) }));
  assert.match(detail(await guest.attest(await guest.auth())), /^evidence refused \(session [0-9a-f]{12}\)$/);
  const [latest] = await run.admin.sessions(1);
  assert.match(latest?.reason ?? "", /nearest workload is demo/);
});

test("eight guests of one address attest at once", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const secrets = await Promise.all(
    Array.from({ length: 8 }, async () => {
      const guest = new Guest(run.url, tpm);
      const { session } = await guest.handshake();
      return (
        await guest.open(await guest.resource("default/key/app", { cookie: session.cookie }))
      ).toString();
    }),
  );
  assert.deepEqual(new Set(secrets), new Set(["the secret"]));
  assert.equal((await run.admin.auditVerify()).ok, true);
});

test("nothing secret reaches the log, the audit log or the sessions", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const { session, token } = await guest.handshake();
  await guest.resource("default/key/app", { cookie: session.cookie });
  await guest.resource("default/key/app", { token });
  const written = JSON.stringify([run.log, await run.admin.audit(), await run.admin.sessions()]);
  for (const secret of [
    session.cookie,
    token,
    run.token,
    "the secret",
    guest.secret(session).toString("base64"),
  ]) {
    assert.equal(written.includes(secret), false, secret.slice(0, 10));
  }
  assert.ok(json(await ask(run.url, "/healthz"))["status"] === "ok");
});

test("two brokers on one database share sessions, decisions and the audit log", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const other = Broker.open({ stateDir: run.dir, platforms: [tpmPlatform()], now: run.time.now });
  const app = createApp({ broker: other, log: () => {} });
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  try {
    const here = new Guest(run.url, tpm);
    const there = new Guest(url, tpm);
    for (let i = 0; i < 5; i++) {
      const session = await here.auth();
      const body = JSON.stringify(here.attestBody(session));
      const answers = await Promise.all([there.send(session.cookie, body), here.send(session.cookie, body)]);
      assert.deepEqual(answers.map((a) => a.status).sort(), [200, 401]);
      const token = String(json(answers.find((a) => a.status === 200) ?? assert.fail("none"))["token"]);
      const answer = await here.resource("default/key/app", { token });
      assert.equal((await here.open(answer)).toString(), "the secret");
    }
    await run.admin.revoke("demo", "kbs:///default/key/*");
    const { token } = await there.handshake();
    assert.equal((await there.resource("default/key/app", { token })).status, 401);
    assert.equal((await run.admin.auditVerify()).ok, true);
  } finally {
    await app.close();
    other.close();
  }
});
