import { createPublicKey } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, type JsonObject, parseJson } from "@shelter/base";
import type { AuditEntry, AuditHead, AuditReport } from "../api.ts";
import { BrokerError } from "../errors.ts";
import { GENESIS, hashEntry, readEntry, readHeads } from "./audit.ts";
import { Database, integer, text } from "./database.ts";
import { MasterKey } from "./master-key.ts";
import { loadSigningKeyFrom, openStatement } from "./signing-key.ts";

/** An audit log from wherever it was kept. */
export interface AuditSource {
  readonly broker: string;
  /** Public JWK of the broker's key, from a place the log's keeper cannot write. */
  readonly key: JsonObject;
  readonly entries: Iterable<AuditEntry>;
  readonly heads: readonly AuditHead[];
}

/**
 * Checks every entry and every signed head. Alteration, insertion and removal show as a broken entry;
 * a log cut behind its last signed head cannot be told from one that ended there.
 */
export function verifyAudit(source: AuditSource): AuditReport {
  const key = createPublicKey({ key: source.key as Record<string, string>, format: "jwk" });
  const heads = new Map<number, AuditHead>();
  let broken: { seq: number; reason: string } | null = null;
  const fail = (seq: number, reason: string) => {
    if (broken === null || seq < broken.seq) broken = { seq, reason };
  };
  for (const head of source.heads) {
    if (!isSigned(head)) fail(head.seq, `signed head ${head.seq} was not signed by this broker`);
    const other = heads.get(head.seq);
    if (other && other.hash !== head.hash) fail(head.seq, `two signed heads differ at entry ${head.seq}`);
    heads.set(head.seq, head);
  }
  let previous = GENESIS;
  let count = 0;
  let last: { seq: number; hash: string } | null = null;
  try {
    for (const entry of source.entries) {
      const seq = count + 1;
      const reason = entryFault(entry, seq, previous, heads.get(seq));
      if (reason !== null) {
        fail(seq, reason);
        break;
      }
      count = seq;
      previous = entry.hash;
      last = { seq, hash: entry.hash };
    }
  } catch (error) {
    fail(count + 1, `entry ${count + 1} cannot be read: ${describe(error)}`);
  }
  const signedUpTo = Math.max(0, ...heads.keys());
  if (broken === null && signedUpTo > count) {
    fail(count + 1, `entries ${count + 1} to ${signedUpTo} are missing: a signed head covers them`);
  }
  return {
    ok: broken === null,
    broker: source.broker,
    entries: count,
    signedUpTo,
    head: last,
    firstBroken: broken,
  };

  function isSigned(head: AuditHead): boolean {
    try {
      const said = openStatement(key, head.signature);
      return (
        said !== null &&
        said["broker"] === source.broker &&
        said["seq"] === head.seq &&
        said["hash"] === head.hash
      );
    } catch {
      return false;
    }
  }
}

function entryFault(
  entry: AuditEntry,
  seq: number,
  previous: string,
  head: AuditHead | undefined,
): string | null {
  if (entry.seq !== seq) return `entry ${seq} is missing, entry ${entry.seq} follows`;
  if (entry.previous !== previous) return `entry ${seq} does not follow the one before it`;
  if (hashEntry(entry) !== entry.hash) return `entry ${seq} was altered: its hash does not fit its content`;
  if (head && head.hash !== entry.hash) return `entry ${seq} is not the one the broker signed`;
  return null;
}

/** Checks the log in a state directory without a running broker. */
export function auditVerify(stateDir: string): AuditReport {
  const db = Database.read(join(stateDir, "broker.db"));
  try {
    const master = MasterKey.load(join(stateDir, "master.key"), true);
    // Read first: a head written while the entries are read must not be newer than they are.
    const kept = headFile(join(stateDir, "audit.head"));
    return db.snapshot(() => verifyDatabase(db, master, stateDir, kept));
  } finally {
    db.close();
  }
}

function verifyDatabase(
  db: Database,
  master: MasterKey,
  stateDir: string,
  kept: readonly AuditHead[],
): AuditReport {
  const row = db.one("SELECT value FROM meta WHERE key = 'broker'");
  const key = loadSigningKeyFrom(db, master);
  if (!row || !key) throw new BrokerError("AUDIT_UNREADABLE", "malformed", `${stateDir} holds no broker`);
  const heads = [...readHeads(db), ...kept];
  const report = verifyAudit({ broker: text(row, "value"), key: key.jwk, entries: entriesOf(db), heads });
  const counted = db.one("SELECT seq FROM sqlite_sequence WHERE name = 'audit'");
  const given = counted ? integer(counted, "seq") : 0;
  if (report.ok && given > report.entries) {
    const seq = report.entries + 1;
    return { ...report, ok: false, firstBroken: { seq, reason: `entries ${seq} to ${given} are missing` } };
  }
  return report;
}

function* entriesOf(db: Database): Generator<AuditEntry> {
  for (const row of db.each("SELECT * FROM audit ORDER BY seq")) yield readEntry(row);
}

/** The newest head is also kept beside the database, so that cutting the log takes two files. */
function headFile(path: string): AuditHead[] {
  if (!existsSync(path)) return [];
  const head = parseJson(readFileSync(path, "utf8"), path) as JsonObject;
  const { seq, hash, time, signature } = head;
  if (
    typeof seq !== "number" ||
    typeof hash !== "string" ||
    typeof time !== "string" ||
    typeof signature !== "string"
  ) {
    throw new BrokerError("AUDIT_UNREADABLE", "malformed", `${path} is not a signed head`);
  }
  return [{ seq, hash, time, signature }];
}
