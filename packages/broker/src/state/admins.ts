import { createHash, randomBytes, timingSafeEqual } from "node:crypto";
import { replaceFile } from "@shelter/base";
import { bytes, type Database, text } from "./database.ts";

/** Administrators, known by the hash of their token only. */
export class Admins {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Makes the first administrator when there is none, or a new token when asked; true when it did. */
  ensure(tokenFile: string, now: Date, renew: boolean): boolean {
    return this.#db.transaction(() => {
      if (!renew && this.#db.one("SELECT id FROM admins LIMIT 1")) return false;
      // 256 random bits need no slow hash: there is nothing to guess.
      const token = `shelter_${randomBytes(32).toString("base64url")}`;
      // The file first: a crash in between leaves no administrator, so the next start does it again.
      replaceFile(tokenFile, `${token}\n`);
      this.#db.run(
        `INSERT INTO admins (name, token_hash, created) VALUES ('admin', ?, ?)
         ON CONFLICT (name) DO UPDATE SET token_hash = excluded.token_hash, created = excluded.created`,
        hashToken(token),
        now.toISOString(),
      );
      return true;
    });
  }

  /** Name of the administrator a token belongs to. Every hash is compared, in constant time. */
  byToken(token: string): string | null {
    const hash = hashToken(token);
    let found: string | null = null;
    for (const row of this.#db.all("SELECT name, token_hash FROM admins")) {
      const stored = bytes(row, "token_hash");
      if (stored.byteLength === hash.byteLength && timingSafeEqual(stored, hash)) found = text(row, "name");
    }
    return found;
  }
}

function hashToken(token: string): Buffer {
  return createHash("sha256").update(token).digest();
}
