import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { test } from "node:test";
import { auditVerify, Broker, BrokerClient } from "@shelter/broker";

const ROUNDS = 6;
const CHILD = join(import.meta.dirname, "support/child.ts");

async function start(stateDir: string): Promise<{ child: ChildProcess; url: string }> {
  const child = spawn(process.execPath, [CHILD, stateDir], { stdio: ["ignore", "pipe", "inherit"] });
  const [url] = await once(createInterface({ input: child.stdout }), "line");
  return { child, url: String(url) };
}

async function kill(child: ChildProcess, signal: NodeJS.Signals): Promise<number | null> {
  const gone = once(child, "exit");
  child.kill(signal);
  const [code] = await gone;
  return code as number | null;
}

test("a broker killed again and again while it writes loses nothing it acknowledged", async (t) => {
  const seed = Date.now() % 1_000_000;
  t.diagnostic(`seed ${seed}`);
  const stateDir = mkdtempSync(join(tmpdir(), "shelter-server-"));
  t.after(() => rmSync(stateDir, { recursive: true, force: true }));
  let state = seed;
  const random = (below: number) => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state % below;
  };
  /** What was acknowledged: path to value, null when deleted. */
  const acknowledged = new Map<string, string | null>();
  /** What was in flight when the process died: either outcome is right. */
  const uncertain = new Map<string, (string | null)[]>();
  for (let round = 0; round < ROUNDS; round++) {
    const { child, url } = await start(stateDir);
    const client = new BrokerClient({ url, token: readFileSync(join(stateDir, "admin.token"), "utf8") });
    const killAfter = 3 + random(12);
    let done = 0;
    let dead: Promise<unknown> | undefined;
    const writer = async (lane: number) => {
      for (let i = 0; dead === undefined; i++) {
        const path = `lane/${lane}/${random(4)}`;
        const value =
          random(5) === 0 && typeof acknowledged.get(path) === "string" ? null : `${round}.${lane}.${i}`;
        uncertain.set(path, [...(uncertain.get(path) ?? []), value]);
        try {
          if (value === null) await client.deleteSecret(`kbs:///${path}`);
          else await client.putSecret(`kbs:///${path}`, Buffer.from(value));
        } catch (error) {
          assert.ok(dead, String(error));
          return;
        }
        acknowledged.set(path, value);
        uncertain.delete(path);
        if (++done === killAfter) dead = kill(child, "SIGKILL");
      }
    };
    await Promise.all([writer(1), writer(2), writer(3)]);
    await dead;
    const report = auditVerify(stateDir);
    assert.deepEqual(report.firstBroken, null);
    const broker = Broker.open({ stateDir, platforms: [], now: () => new Date() });
    for (const [path, value] of acknowledged) {
      const stored = broker.state.resources.open(path as Parameters<typeof broker.state.resources.open>[0]);
      const found = stored === null ? null : Buffer.from(stored.value.reveal()).toString();
      const allowed = [value, ...(uncertain.get(path) ?? [])];
      assert.ok(allowed.includes(found), `${path} is ${found}, acknowledged ${value}`);
      acknowledged.set(path, found);
    }
    uncertain.clear();
    broker.close();
  }
  assert.ok(acknowledged.size > 0);
  // And a clean stop is a clean stop.
  const { child } = await start(stateDir);
  assert.equal(await kill(child, "SIGTERM"), 0);
  assert.equal(auditVerify(stateDir).ok, true);
});
