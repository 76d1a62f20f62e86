import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { copyFileSync, cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type TestContext, test } from "node:test";
import { Broker } from "../src/broker.ts";
import { auditVerify, verifyAudit } from "../src/state/audit-verify.ts";
import { clock, scratch } from "./support/scratch.ts";

const ENTRIES = 40; // more than two signed heads' worth

/** A log of a broker that did a few things and stopped. */
function log(t: TestContext): string {
  const dir = join(scratch(t), "state");
  const broker = Broker.open({ stateDir: dir, platforms: [], now: clock().now });
  for (let i = 2; i < ENTRIES; i++) {
    broker.state.audit.append({
      actor: "admin a",
      action: "test",
      subject: `#${i}`,
      outcome: "ok",
      details: { i },
    });
  }
  broker.close();
  return dir;
}

function sql(dir: string, ...statements: string[]): void {
  const db = new DatabaseSync(join(dir, "broker.db"));
  db.exec("DROP TRIGGER IF EXISTS audit_no_update; DROP TRIGGER IF EXISTS audit_no_delete");
  for (const statement of statements) db.exec(statement);
  db.close();
}

test("an untouched log holds, up to its last entry", (t) => {
  const report = auditVerify(log(t));
  assert.deepEqual(
    { ok: report.ok, entries: report.entries, signedUpTo: report.signedUpTo, broken: report.firstBroken },
    { ok: true, entries: ENTRIES, signedUpTo: ENTRIES, broken: null },
  );
});

test("the database itself refuses to change or delete an entry", (t) => {
  const dir = log(t);
  const db = new DatabaseSync(join(dir, "broker.db"));
  assert.throws(() => db.exec("UPDATE audit SET outcome = 'ok' WHERE seq = 3"), /append-only/);
  assert.throws(() => db.exec("DELETE FROM audit WHERE seq = 3"), /append-only/);
  db.close();
});

const TAMPERINGS: readonly [string, string, number, RegExp][] = [
  ["an altered actor", "UPDATE audit SET actor = 'admin b' WHERE seq = 7", 7, /altered/],
  ["an altered time", "UPDATE audit SET time = '2026-01-01T00:00:00.000Z' WHERE seq = 8", 8, /altered/],
  ["altered details", "UPDATE audit SET details = '{\"i\":999}' WHERE seq = 9", 9, /altered/],
  ["details that are not JSON", "UPDATE audit SET details = '{' WHERE seq = 9", 9, /cannot be read/],
  ["an altered hash", `UPDATE audit SET hash = '${"0".repeat(64)}' WHERE seq = 9`, 9, /altered|signed/],
  ["a removed entry", "DELETE FROM audit WHERE seq = 20", 20, /missing/],
  ["a removed first entry", "DELETE FROM audit WHERE seq = 1", 1, /missing/],
  [
    "two entries exchanged",
    "UPDATE audit SET seq = -1 WHERE seq = 5; UPDATE audit SET seq = 5 WHERE seq = 6; UPDATE audit SET seq = 6 WHERE seq = -1",
    5,
    /does not follow/,
  ],
  ["a cut end", "DELETE FROM audit WHERE seq > 30", 31, /missing/],
  [
    "a cut end with its heads",
    "DELETE FROM audit WHERE seq > 30; DELETE FROM audit_heads WHERE seq > 30",
    31,
    /missing/,
  ],
  [
    "a forged head",
    "UPDATE audit_heads SET hash = (SELECT hash FROM audit WHERE seq = 2) WHERE seq = 16",
    16,
    /not signed by this broker/,
  ],
];

for (const [name, statement, seq, reason] of TAMPERINGS) {
  test(`finds ${name} and names the first broken entry`, (t) => {
    const dir = log(t);
    sql(dir, statement);
    const report = auditVerify(dir);
    assert.equal(report.ok, false);
    assert.equal(report.firstBroken?.seq, seq);
    assert.match(report.firstBroken?.reason ?? "", reason);
  });
}

test("a whole chain written anew without the key does not pass for the old one", (t) => {
  const dir = log(t);
  const db = new DatabaseSync(join(dir, "broker.db"));
  db.exec("DROP TRIGGER audit_no_update");
  // What an attacker with the file, the format and no key would do: change one entry and rehash the rest.
  rehash(db, "admin mallory", 10);
  db.close();
  const report = auditVerify(dir);
  assert.equal(report.ok, false);
  assert.match(report.firstBroken?.reason ?? "", /not the one the broker signed/);
  assert.equal(report.firstBroken?.seq, 16);
});

function rehash(db: DatabaseSync, actor: string, from: number): void {
  const canonical = (o: Record<string, unknown>): string =>
    JSON.stringify(Object.fromEntries(Object.entries(o).sort(([a], [b]) => (a < b ? -1 : 1))));
  const rows = db.prepare("SELECT * FROM audit ORDER BY seq").all() as Record<string, string | number>[];
  let previous = "0".repeat(64);
  for (const row of rows) {
    if (Number(row["seq"]) === from) row["actor"] = actor;
    const { hash: _, details, ...rest } = row;
    const entry = { ...rest, previous };
    const text = canonical({ ...entry, details: "@" }).replace('"@"', String(details));
    const hash = sha256(text);
    db.prepare("UPDATE audit SET actor = ?, previous = ?, hash = ? WHERE seq = ?").run(
      String(row["actor"]),
      previous,
      hash,
      Number(row["seq"]),
    );
    previous = hash;
  }
}

test("cutting the log, its heads, its counter and the head file cannot be seen without a head kept elsewhere", (t) => {
  const dir = log(t);
  const kept = JSON.parse(readFileSync(join(dir, "audit.head"), "utf8")) as { seq: number };
  assert.equal(kept.seq, ENTRIES);
  const copy = `${dir}-kept`;
  cpSync(dir, copy, { recursive: true });
  sql(
    dir,
    "DELETE FROM audit WHERE seq > 30",
    "DELETE FROM audit_heads WHERE seq > 30",
    "UPDATE sqlite_sequence SET seq = 30 WHERE name = 'audit'",
  );
  rmSync(join(dir, "audit.head"));
  assert.equal(auditVerify(dir).ok, true, "this is what docs/broker.md says cannot be seen");
  copyFileSync(join(copy, "audit.head"), join(dir, "audit.head"));
  assert.equal(auditVerify(dir).firstBroken?.seq, 31);
});

test("an export is verified without the database, and against another broker's key it is not", (t) => {
  const dir = log(t);
  const broker = Broker.open({ stateDir: dir, platforms: [], now: clock().now });
  const entries = broker.state.audit.entries(0, 1000);
  const heads = broker.state.audit.heads();
  const source = { broker: broker.state.id, key: broker.state.key.jwk, entries, heads };
  assert.equal(verifyAudit(source).ok, true);
  assert.equal(verifyAudit({ ...source, entries: entries.slice(0, 10) }).firstBroken?.seq, 11);
  assert.equal(verifyAudit({ ...source, entries: entries.slice(1) }).firstBroken?.seq, 1);
  broker.close();
  const other = Broker.open({ stateDir: join(scratch(t), "other"), platforms: [], now: clock().now });
  assert.equal(verifyAudit({ ...source, key: other.state.key.jwk }).ok, false);
  assert.equal(verifyAudit({ ...source, broker: other.state.id }).ok, false);
  other.close();
});

test("a broken head file is an error, not a pass", (t) => {
  const dir = log(t);
  writeFileSync(join(dir, "audit.head"), "{}\n");
  assert.throws(() => auditVerify(dir), { code: "AUDIT_UNREADABLE" });
});

function sha256(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
