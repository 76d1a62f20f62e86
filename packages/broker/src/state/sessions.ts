import { createHash, randomBytes } from "node:crypto";
import { canonicalJson, type Json, type JsonObject, parseJson } from "@shelter/base";
import type { ReleaseInfo, SessionState } from "../api.ts";
import { bytesOrNull, type Database, integer, type Row, text, textOrNull } from "./database.ts";
import type { MasterKey } from "./master-key.ts";

/** How many sessions there may be, and for how long. */
export interface SessionLimits {
  /** From `/auth` to the end of an unanswered session, and from `/attest` to the end of an attested one. */
  readonly lifetimeMs: number;
  /** Unanswered sessions of one address; the oldest gives way to a new one. */
  readonly openPerAddress: number;
  /** Unanswered sessions altogether; past that, new ones are refused. */
  readonly open: number;
  /** Attested sessions kept to be explained, and as many refused ones. */
  readonly kept: number;
}

/** Limits for one broker; a judged session is stored in some 8 KiB, never in more than 64. */
export const SESSION_LIMITS: SessionLimits = {
  lifetimeMs: 5 * 60_000,
  openPerAddress: 512,
  open: 8192,
  kept: 5000,
};

/** A session as stored. */
export interface Session {
  readonly id: string;
  readonly tee: string;
  readonly state: SessionState;
  readonly nonce: string;
  /** What the platform's verifier wants back at `/attest`; null once judged. */
  readonly challenge: JsonObject | null;
  readonly address: string;
  readonly created: Date;
  readonly expires: Date;
  /** What the judgement concluded; null before. */
  readonly judgement: JsonObject | null;
  readonly teeKey: JsonObject | null;
  readonly thumbprint: string | null;
}

/** Sessions: the database knows a cookie only by its hash, so reading it gives nobody a session. */
export class Sessions {
  readonly #db: Database;
  readonly #master: MasterKey;
  readonly #limits: SessionLimits;

  constructor(db: Database, master: MasterKey, limits: SessionLimits) {
    this.#db = db;
    this.#master = master;
    this.#limits = limits;
  }

  /** Opens a session and returns its cookie, or null when there are too many. */
  open(
    tee: string,
    nonce: string,
    challenge: JsonObject | null,
    address: string,
    now: Date,
  ): { cookie: string; session: Session } | null {
    const cookie = randomBytes(16).toString("hex");
    const id = sessionId(cookie);
    return this.#db.transaction(() => {
      const at = now.getTime();
      if (this.#count("SELECT count(*) AS n FROM sessions WHERE state = 'open'") >= this.#limits.open) {
        this.sweep(now);
        if (this.#count("SELECT count(*) AS n FROM sessions WHERE state = 'open'") >= this.#limits.open)
          return null;
      }
      this.#db.run(
        `DELETE FROM sessions WHERE id IN (SELECT id FROM sessions WHERE address = ? AND state = 'open'
           ORDER BY created DESC, rowid DESC LIMIT -1 OFFSET ?)`,
        address,
        this.#limits.openPerAddress - 1,
      );
      const sealed =
        challenge === null ? null : this.#master.seal("session", id, Buffer.from(canonicalJson(challenge)));
      this.#db.run(
        `INSERT INTO sessions (id, tee, state, nonce, sealed_challenge, address, created, expires)
         VALUES (?, ?, 'open', ?, ?, ?, ?, ?)`,
        id,
        tee,
        nonce,
        sealed,
        address,
        at,
        at + this.#limits.lifetimeMs,
      );
      const session = this.byId(id);
      return session ? { cookie, session } : null;
    });
  }

  #count(sql: string): number {
    const row = this.#db.one(sql);
    return row ? integer(row, "n") : 0;
  }

  byCookie(cookie: string): Session | null {
    return this.byId(sessionId(cookie));
  }

  byId(id: string): Session | null {
    const row = this.#db.one("SELECT * FROM sessions WHERE id = ?", id);
    return row ? this.#read(row) : null;
  }

  /** The one session whose id begins so, or null for none or several. */
  byPrefix(prefix: string): Session | null {
    if (!/^[0-9a-f]{4,32}$/.test(prefix)) return null;
    const rows = this.#db.all(
      "SELECT * FROM sessions WHERE id >= ? AND id < ? LIMIT 2",
      prefix,
      `${prefix}g`,
    );
    return rows.length === 1 && rows[0] ? this.#read(rows[0]) : null;
  }

  latest(limit: number): Session[] {
    return this.#db
      .all("SELECT * FROM sessions ORDER BY created DESC, rowid DESC LIMIT ?", limit)
      .map((row) => this.#read(row));
  }

  /** Takes the nonce: true for exactly one caller, however many try at once. */
  consume(id: string, now: Date): boolean {
    return (
      this.#db.run(
        "UPDATE sessions SET state = 'judging' WHERE id = ? AND state = 'open' AND expires > ?",
        id,
        now.getTime(),
      ) === 1
    );
  }

  /** Stores what was concluded and drops the challenge's secret; false when the session was ended meanwhile. */
  judged(
    id: string,
    state: "attested" | "refused",
    judgement: JsonObject,
    key: { jwk: JsonObject; thumbprint: string } | null,
    expires: Date,
  ): boolean {
    const changed = this.#db.run(
      `UPDATE sessions SET state = ?, judgement = ?, tee_key = ?, thumbprint = ?, expires = ?, sealed_challenge = NULL
       WHERE id = ? AND state = 'judging'`,
      state,
      canonicalJson(judgement),
      key === null ? null : canonicalJson(key.jwk),
      key === null ? null : key.thumbprint,
      expires.getTime(),
      id,
    );
    return changed === 1;
  }

  /** Ends a session that may still receive something. */
  revoke(id: string): boolean {
    return (
      this.#db.run(
        "UPDATE sessions SET state = 'revoked', sealed_challenge = NULL WHERE id = ? AND state IN ('open', 'judging', 'attested')",
        id,
      ) > 0
    );
  }

  /** Removes unanswered sessions past their time, and the oldest judged ones past the limit. */
  sweep(now: Date): number {
    return this.#db.transaction(() => {
      const expired = this.#db.run(
        "DELETE FROM sessions WHERE state IN ('open', 'judging') AND expires <= ?",
        now.getTime(),
      );
      let old = 0;
      // Each kind on its own, so that a flood of refused ones does not push the attested ones out.
      for (const states of ["'attested', 'revoked'", "'refused'"]) {
        old += this.#db.run(
          `DELETE FROM sessions WHERE expires <= ? AND id IN (SELECT id FROM sessions WHERE state IN (${states})
             ORDER BY created DESC, rowid DESC LIMIT -1 OFFSET ?)`,
          now.getTime(),
          this.#limits.kept,
        );
      }
      if (old > 0) this.#db.run("DELETE FROM releases WHERE session NOT IN (SELECT id FROM sessions)");
      return expired + old;
    });
  }

  /** Records that a session asked for something. */
  release(
    id: string,
    path: string,
    outcome: "released" | "refused",
    version: number | null,
    reason: string | null,
    now: Date,
  ): void {
    this.#db.run(
      "INSERT INTO releases (session, time, path, outcome, version, reason) VALUES (?, ?, ?, ?, ?, ?)",
      id,
      now.toISOString(),
      path,
      outcome,
      version,
      reason,
    );
  }

  releases(id: string): ReleaseInfo[] {
    return this.#db.all("SELECT * FROM releases WHERE session = ? ORDER BY id LIMIT 1000", id).map((row) => ({
      time: text(row, "time"),
      path: text(row, "path"),
      outcome: text(row, "outcome") === "released" ? "released" : "refused",
      version: row["version"] === null ? null : integer(row, "version"),
      reason: textOrNull(row, "reason"),
    }));
  }

  #read(row: Row): Session {
    const id = text(row, "id");
    const sealed = bytesOrNull(row, "sealed_challenge");
    const challenge =
      sealed === null ? null : Buffer.from(this.#master.open("session", id, sealed)).toString("utf8");
    return {
      id,
      tee: text(row, "tee"),
      state: text(row, "state") as SessionState,
      nonce: text(row, "nonce"),
      challenge: jsonObject(challenge),
      address: text(row, "address"),
      created: new Date(integer(row, "created")),
      expires: new Date(integer(row, "expires")),
      judgement: jsonObject(textOrNull(row, "judgement")),
      teeKey: jsonObject(textOrNull(row, "tee_key")),
      thumbprint: textOrNull(row, "thumbprint"),
    };
  }
}

/** The name of a session in logs and audit; the cookie cannot be computed from it. */
export function sessionId(cookie: string): string {
  return createHash("sha256").update(cookie).digest("hex").slice(0, 32);
}

function jsonObject(stored: string | null): JsonObject | null {
  if (stored === null) return null;
  const value: Json = parseJson(stored, "stored session");
  return value !== null && typeof value === "object" && !Array.isArray(value) ? (value as JsonObject) : null;
}
