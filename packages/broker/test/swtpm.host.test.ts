import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { detail, Guest } from "./support/guest.ts";
import { reference, running } from "./support/running.ts";
import { bootEvents } from "./support/soft-tpm.ts";
import { missingTool, SwTpm } from "./support/swtpm.ts";

const missing = missingTool();

test("a guest with a swtpm receives its secret, and not with a log that leaves a measurement out", {
  skip: missing ? `${missing} is not installed (apt-get install swtpm swtpm-tools tpm2-tools)` : false,
}, async (t) => {
  const run = await running(t);
  // Not the broker's scratch directory: the path of a socket is at most 107 characters.
  const dir = mkdtempSync(join(tmpdir(), "tpm-"));
  let tpm: SwTpm | undefined;
  t.after(async () => {
    await tpm?.stop();
    rmSync(dir, { recursive: true, force: true });
  });
  tpm = new SwTpm(dir, bootEvents());
  await run.admin.putReference(reference("demo", tpm));
  await run.admin.putSecret("kbs:///default/key/app", Buffer.from("the secret"));
  await run.admin.allow("demo", "kbs:///default/key/app");
  // swtpm's certificates are dated now, the broker's clock stands: let it stand here.
  run.time.pass(Date.now() - run.time.now().getTime());
  const guest = new Guest(run.url, tpm);
  assert.match(detail(await guest.attest(await guest.auth())), /ek-anchor: no trust anchor/);
  await run.admin.addTrustAnchor(tpm.issuer);
  const { session } = await guest.handshake();
  const answer = await guest.resource("default/key/app", { cookie: session.cookie });
  assert.equal((await guest.open(answer)).toString(), "the secret");
  const told = await run.admin.explain((await run.admin.sessions(1))[0]?.id ?? "");
  assert.ok(told.checks.every((check) => check.ok));
  // The same TPM, a log without its last event.
  const next = await guest.auth();
  const stale = guest.attestBody(next) as { "tee-evidence": { primary_evidence: { event_log: string } } };
  const shorter = guest.tpm.eventLog(guest.tpm.events.slice(0, -1)).toString("base64");
  stale["tee-evidence"].primary_evidence.event_log = shorter;
  assert.match(detail(await guest.send(next.cookie, JSON.stringify(stale))), /eventlog-replay/);
});
