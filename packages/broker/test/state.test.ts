import assert from "node:assert/strict";
import { chmodSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { Broker } from "../src/broker.ts";
import { parseResourcePath } from "../src/wire/resource-path.ts";
import { clock, scratch } from "./support/scratch.ts";

const PATH = parseResourcePath("default/key/app");

function open(stateDir: string, more: Partial<Parameters<typeof Broker.open>[0]> = {}): Broker {
  return Broker.open({ stateDir, platforms: [], now: clock().now, ...more });
}

function opened(t: TestContext): { broker: Broker; dir: string } {
  const dir = join(scratch(t), "state");
  return { broker: open(dir), dir };
}

test("a first start makes a private state directory and writes the admin token once", (t) => {
  const { broker, dir } = opened(t);
  for (const file of ["broker.db", "broker.db-wal", "master.key", "admin.token", "audit.head"]) {
    assert.equal(statSync(join(dir, file)).mode & 0o777, 0o600, file);
  }
  assert.equal(statSync(dir).mode & 0o777, 0o700);
  const token = readFileSync(join(dir, "admin.token"), "utf8").trim();
  assert.match(token, /^shelter_[A-Za-z0-9_-]{43}$/);
  assert.equal(broker.administration.authenticate(token), "admin");
  assert.equal(broker.administration.authenticate(`${token}x`), null);
  assert.equal(broker.administration.authenticate(""), null);
  broker.close();
  const again = open(dir);
  assert.equal(again.adminTokenIsNew, false);
  assert.equal(readFileSync(join(dir, "admin.token"), "utf8").trim(), token);
  again.close();
  const renewed = open(dir, { renewAdminToken: true });
  assert.equal(renewed.administration.authenticate(token), null);
  const fresh = readFileSync(join(dir, "admin.token"), "utf8").trim();
  assert.equal(renewed.administration.authenticate(fresh), "admin");
  renewed.close();
});

test("neither the token nor a secret is in the database file", (t) => {
  const { broker, dir } = opened(t);
  broker.administration.putSecret("admin", PATH, Buffer.from("a value nobody may read"));
  const token = readFileSync(join(dir, "admin.token"), "utf8").trim();
  broker.close();
  const file = readFileSync(join(dir, "broker.db"));
  assert.equal(file.includes("a value nobody may read"), false);
  assert.equal(file.includes(token), false);
  assert.equal(file.includes("default/key/app"), true);
});

test("a secret survives a restart, gets a new version each time, and is gone when deleted", (t) => {
  const { broker, dir } = opened(t);
  assert.equal(broker.state.resources.put(PATH, Buffer.from("one"), new Date()).version, 1);
  assert.equal(broker.state.resources.put(PATH, Buffer.from("two"), new Date()).version, 2);
  broker.close();
  const again = open(dir);
  const { version, value } = again.state.resources.open(PATH) ?? assert.fail("gone");
  assert.equal(version, 2);
  assert.equal(Buffer.from(value.reveal()).toString(), "two");
  assert.equal(again.state.resources.delete(PATH), true);
  assert.equal(again.state.resources.delete(PATH), false);
  assert.equal(again.state.resources.open(PATH), null);
  assert.equal(again.state.resources.put(PATH, Buffer.from("three"), new Date()).version, 3);
  again.close();
});

test("an altered, moved or rolled back ciphertext does not open", (t) => {
  const { broker, dir } = opened(t);
  broker.state.resources.put(PATH, Buffer.from("one"), new Date());
  broker.state.resources.put(parseResourcePath("default/key/other"), Buffer.from("other"), new Date());
  broker.close();
  for (const sql of [
    "UPDATE resources SET sealed = zeroblob(length(sealed)) WHERE path = 'default/key/app'",
    "UPDATE resources SET version = 2 WHERE path = 'default/key/app'",
    "UPDATE resources SET sealed = (SELECT sealed FROM resources WHERE path = 'default/key/other') WHERE path = 'default/key/app'",
    "UPDATE resources SET sealed = x'00' WHERE path = 'default/key/app'",
  ]) {
    const copy = readFileSync(join(dir, "broker.db"));
    tamper(dir, sql);
    const again = open(dir);
    assert.throws(() => again.state.resources.open(PATH), { code: "RESOURCE_CORRUPT" }, sql);
    again.close();
    writeFileSync(join(dir, "broker.db"), copy);
    rmSync(join(dir, "audit.head"), { force: true });
  }
});

function tamper(dir: string, sql: string): void {
  const db = new DatabaseSync(join(dir, "broker.db"));
  db.exec(sql);
  db.close();
}

test("a missing, wrong, readable or broken master key is named", (t) => {
  const { broker, dir } = opened(t);
  broker.close();
  const path = join(dir, "master.key");
  const key = readFileSync(path);
  rmSync(path);
  assert.throws(() => open(dir), { code: "MASTER_KEY_MISSING" });
  writeFileSync(path, `${"0".repeat(64)}\n`, { mode: 0o600 });
  assert.throws(() => open(dir), { code: "MASTER_KEY_WRONG" });
  writeFileSync(path, "short\n");
  assert.throws(() => open(dir), { code: "MASTER_KEY_MALFORMED" });
  writeFileSync(path, key);
  chmodSync(path, 0o640);
  assert.throws(() => open(dir), { code: "MASTER_KEY_EXPOSED" });
  chmodSync(path, 0o600);
  open(dir).close();
});

test("a database of a newer version is left alone", (t) => {
  const { broker, dir } = opened(t);
  broker.close();
  tamper(dir, "INSERT INTO migrations (id, name) VALUES (99, 'from the future')");
  assert.throws(() => open(dir), { code: "DATABASE_UNUSABLE", message: /has schema 99/ });
});

const REFERENCE = {
  version: 1,
  workload: "demo",
  image: `sha256:${"a".repeat(64)}`,
  values: [
    {
      platform: "vtpm",
      shape: { cpus: 1, memory: 268435456 },
      pcrs: {
        "0": "0".repeat(64),
        "2": "2".repeat(64),
        "4": "4".repeat(64),
        "7": "7".repeat(64),
        "9": "9".repeat(64),
      },
    },
  ],
} as const;

test("reference values add up, repeat without effect, and go by id, image or workload", (t) => {
  const { broker } = opened(t);
  const a = broker.administration;
  assert.equal(a.putReference("admin", REFERENCE).length, 1);
  a.putReference("admin", REFERENCE);
  assert.equal(a.listReferences().length, 1);
  a.putReference("admin", { ...REFERENCE, image: `sha256:${"b".repeat(64)}` });
  assert.equal(a.listReferences("demo").length, 2);
  assert.equal(a.listReferences("other").length, 0);
  assert.equal(a.deleteReference("admin", { workload: "demo", image: `sha256:${"a".repeat(64)}` }), 1);
  const [left] = a.listReferences();
  assert.equal(left?.image, `sha256:${"b".repeat(64)}`);
  assert.equal(a.deleteReference("admin", { id: left?.id ?? -1 }), 1);
  assert.throws(() => a.deleteReference("admin", { workload: "demo", image: null }), {
    code: "REFERENCE_UNKNOWN",
  });
  broker.close();
});

test("a reference value that would match too much is refused", (t) => {
  const { broker } = opened(t);
  const put = (change: object) => () =>
    broker.administration.putReference("admin", { ...REFERENCE, ...change } as typeof REFERENCE);
  const [value] = REFERENCE.values;
  const { "4": _, ...without } = value.pcrs;
  assert.throws(put({ values: [{ ...value, pcrs: without }] }), {
    code: "REFERENCE_TOO_WEAK",
    message: /PCR 4.*kernel/,
  });
  assert.throws(put({ values: [{ ...value, pcrs: {} }] }), { code: "REFERENCE_TOO_WEAK" });
  assert.throws(put({ values: [] }), { code: "REFERENCE_MALFORMED" });
  assert.throws(put({ values: [{ ...value, pcrs: { ...value.pcrs, "24": "0".repeat(64) } }] }), /has "24"/);
  assert.throws(put({ values: [{ ...value, pcrs: { ...value.pcrs, "9": "9" } }] }), /not 64 hex digits/);
  assert.throws(put({ values: [{ ...value, platform: "none" }] }), /"none" is not one of vtpm/);
  assert.throws(put({ version: 2 }), /version 2 is not 1/);
  assert.throws(put({ extra: 1 }), /unknown key "extra"/);
  assert.throws(put({ workload: "../x" }), { code: "WORKLOAD_MALFORMED" });
  assert.throws(put({ image: "latest" }), { code: "DIGEST_MALFORMED" });
  broker.close();
});

test("a policy names a workload and a pattern, and can be taken back", (t) => {
  const { broker } = opened(t);
  const { policies } = broker.state;
  assert.equal(policies.allows(["demo"], PATH), null);
  const rule = broker.administration.allow("admin", "demo", "kbs:///default/key/*");
  assert.equal(rule.pattern, "kbs:///default/key/*");
  assert.equal(policies.allows(["demo"], PATH)?.id, rule.id);
  assert.equal(policies.allows(["other"], PATH), null);
  assert.equal(policies.allows([], PATH), null);
  assert.equal(broker.administration.allow("admin", "demo", "default/key/*").id, rule.id);
  broker.administration.revoke("admin", "demo", "kbs:///default/key/*");
  assert.equal(policies.allows(["demo"], PATH), null);
  assert.throws(() => broker.administration.revoke("admin", "demo", "kbs:///default/key/*"), {
    code: "POLICY_UNKNOWN",
  });
  broker.close();
});

test("the oldest unanswered session of an address gives way, the whole number is bounded, time ends them", (t) => {
  const dir = scratch(t);
  const time = clock();
  const broker = open(dir, {
    now: time.now,
    limits: { openPerAddress: 3, open: 5, lifetimeMs: 1000, kept: 2 },
  });
  const { sessions } = broker.state;
  const begin = (address: string) => sessions.open("tpm", "nonce", null, address, time.now());
  const first = begin("a")?.session.id ?? "";
  begin("a");
  begin("a");
  assert.ok(sessions.byId(first));
  assert.ok(begin("a"));
  assert.equal(sessions.byId(first), null);
  assert.ok(begin("b"));
  assert.ok(begin("b"));
  assert.equal(begin("b"), null);
  assert.equal(sessions.latest(100).length, 5);
  time.pass(1001);
  assert.ok(begin("b"));
  assert.equal(sessions.latest(100).length, 1);
  broker.close();
});

test("a nonce is taken once, and not after its time", (t) => {
  const dir = scratch(t);
  const time = clock();
  const broker = open(dir, { now: time.now });
  const { sessions } = broker.state;
  const one = sessions.open("tpm", "nonce", { secret: "x" }, "a", time.now())?.session.id ?? "";
  assert.equal(sessions.consume(one, time.now()), true);
  assert.equal(sessions.consume(one, time.now()), false);
  const two = sessions.open("tpm", "nonce", null, "a", time.now())?.session.id ?? "";
  time.pass(5 * 60_000);
  assert.equal(sessions.consume(two, time.now()), false);
  broker.close();
});
