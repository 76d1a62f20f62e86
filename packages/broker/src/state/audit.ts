import { createHash } from "node:crypto";
import { canonicalJson, type Json, type JsonObject, parseJson } from "@shelter/base";
import type { AuditEntry, AuditHead } from "../api.ts";
import { type Database, integer, type Row, text } from "./database.ts";
import { type SigningKey, signStatement } from "./signing-key.ts";

/** What an action is recorded as. Nothing secret belongs in it: no token, cookie, nonce or value. */
export interface AuditRecord {
  /** `client ADDRESS`, `admin NAME`, `session ID` or `broker`. */
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly outcome: "ok" | "refused" | "failed";
  readonly details: JsonObject;
}

/** What the first entry has before it. */
export const GENESIS = "0".repeat(64);

const SIGN_EVERY = 16; // entries; with the sweep's timer, the unsigned tail stays short

/** The append-only log: each entry carries the hash of the one before; heads are signed now and then. */
export class AuditLog {
  readonly #db: Database;
  readonly #key: SigningKey;
  readonly #broker: string;
  readonly #now: () => Date;
  readonly #onHead: (head: AuditHead) => void;

  constructor(
    db: Database,
    key: SigningKey,
    broker: string,
    now: () => Date,
    onHead: (head: AuditHead) => void,
  ) {
    this.#db = db;
    this.#key = key;
    this.#broker = broker;
    this.#now = now;
    this.#onHead = onHead;
  }

  /** Appends an entry, inside the transaction of the action it records where there is one. */
  append(record: AuditRecord): void {
    const seq = this.#db.transaction(() => {
      const last = this.#db.one("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1");
      const next = last ? integer(last, "seq") + 1 : 1;
      const entry = {
        seq: next,
        time: this.#now().toISOString(),
        ...record,
        previous: last ? text(last, "hash") : GENESIS,
      };
      this.#db.run(
        "INSERT INTO audit (seq, time, actor, action, subject, outcome, details, previous, hash) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        entry.seq,
        entry.time,
        entry.actor,
        entry.action,
        entry.subject,
        entry.outcome,
        canonicalJson(entry.details),
        entry.previous,
        hashEntry(entry),
      );
      return next;
    });
    // A head of an entry that is then rolled back would accuse the log of missing it.
    if (seq % SIGN_EVERY === 0) this.#db.afterCommit(() => this.signHead());
  }

  /** Signs the newest entry, unless it already is. */
  signHead(): void {
    const head = this.#db.transaction(() => {
      const last = this.#db.one("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1");
      if (!last) return null;
      const seq = integer(last, "seq");
      if (this.#db.one("SELECT seq FROM audit_heads WHERE seq = ?", seq)) return null;
      const statement = {
        broker: this.#broker,
        seq,
        hash: text(last, "hash"),
        time: this.#now().toISOString(),
      };
      const signature = signStatement(this.#key, statement);
      this.#db.run(
        "INSERT INTO audit_heads (seq, hash, time, signature) VALUES (?, ?, ?, ?)",
        seq,
        statement.hash,
        statement.time,
        signature,
      );
      return { seq, hash: statement.hash, time: statement.time, signature };
    });
    if (head) this.#onHead(head);
  }

  entries(after: number, limit: number): AuditEntry[] {
    return this.#db
      .all("SELECT * FROM audit WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)
      .map(readEntry);
  }

  /** The newest entries, oldest first. */
  tail(limit: number): AuditEntry[] {
    return this.#db.all("SELECT * FROM audit ORDER BY seq DESC LIMIT ?", limit).reverse().map(readEntry);
  }

  heads(): AuditHead[] {
    return readHeads(this.#db);
  }
}

/** Hash of an entry: SHA-256 of the canonical JSON of everything else in it. */
export function hashEntry(entry: Omit<AuditEntry, "hash">): string {
  const { seq, time, actor, action, subject, outcome, details, previous } = entry;
  return createHash("sha256")
    .update(canonicalJson({ seq, time, actor, action, subject, outcome, details, previous }))
    .digest("hex");
}

/** An entry from its row. */
export function readEntry(row: Row): AuditEntry {
  return {
    seq: integer(row, "seq"),
    time: text(row, "time"),
    actor: text(row, "actor"),
    action: text(row, "action"),
    subject: text(row, "subject"),
    outcome: text(row, "outcome"),
    details: parseJson(text(row, "details"), "details of an audit entry") as Json,
    previous: text(row, "previous"),
    hash: text(row, "hash"),
  };
}

/** All signed heads, oldest first. */
export function readHeads(db: Database): AuditHead[] {
  return db.all("SELECT * FROM audit_heads ORDER BY seq").map((row) => ({
    seq: integer(row, "seq"),
    hash: text(row, "hash"),
    time: text(row, "time"),
    signature: text(row, "signature"),
  }));
}
