import { chmodSync, closeSync, openSync } from "node:fs";
import { DatabaseSync, type SQLInputValue, type SQLOutputValue, type StatementSync } from "node:sqlite";
import { BrokerError } from "../errors.ts";
import { MIGRATIONS } from "./migrations.ts";

/** A row as SQLite gives it. */
export type Row = Record<string, SQLOutputValue>;

/** The broker's one database file: statements prepared once, transactions that nest into the outer one. */
export class Database {
  readonly #db: DatabaseSync;
  readonly #statements = new Map<string, StatementSync>();
  #depth = 0;
  #committed: (() => void)[] = [];

  private constructor(db: DatabaseSync) {
    this.#db = db;
  }

  /** Opens or creates the file with mode 0600 and brings its schema up to date. */
  static open(path: string): Database {
    try {
      // Created here rather than by SQLite, so that it is never readable by others, not even briefly.
      closeSync(openSync(path, "a", 0o600));
      chmodSync(path, 0o600);
      const db = new DatabaseSync(path, { enableForeignKeyConstraints: true, timeout: 10_000 });
      db.exec("PRAGMA journal_mode = WAL");
      // An acknowledged write survives a killed process and a power failure.
      db.exec("PRAGMA synchronous = FULL");
      // A deleted secret's ciphertext is overwritten, not left in free pages.
      db.exec("PRAGMA secure_delete = ON");
      const database = new Database(db);
      database.#migrate(path);
      return database;
    } catch (cause) {
      if (cause instanceof BrokerError) throw cause;
      throw new BrokerError("DATABASE_UNUSABLE", "unavailable", `cannot open ${path}`, { cause });
    }
  }

  /** Opens an existing file for reading only. */
  static read(path: string): Database {
    try {
      return new Database(new DatabaseSync(path, { readOnly: true, timeout: 10_000 }));
    } catch (cause) {
      throw new BrokerError("DATABASE_UNUSABLE", "unavailable", `cannot read ${path}`, { cause });
    }
  }

  #migrate(path: string): void {
    this.#db.exec(
      "CREATE TABLE IF NOT EXISTS migrations (id INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT",
    );
    this.transaction(() => {
      const done = Number(this.one("SELECT coalesce(max(id), 0) AS n FROM migrations")?.["n"] ?? 0);
      if (done > MIGRATIONS.length) {
        throw new BrokerError(
          "DATABASE_UNUSABLE",
          "unavailable",
          `${path} has schema ${done}, this version knows ${MIGRATIONS.length}`,
          { hint: "run the version of shelter that wrote it, or a newer one" },
        );
      }
      for (const [i, migration] of MIGRATIONS.entries()) {
        if (i < done) continue;
        this.#db.exec(migration.sql);
        this.run("INSERT INTO migrations (id, name) VALUES (?, ?)", i + 1, migration.name);
      }
    });
  }

  #prepare(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (!statement) {
      statement = this.#db.prepare(sql);
      this.#statements.set(sql, statement);
    }
    return statement;
  }

  /** Runs a statement; returns how many rows it changed. */
  run(sql: string, ...values: SQLInputValue[]): number {
    return guarded(() => Number(this.#prepare(sql).run(...values).changes));
  }

  /** The first row, if any. */
  one(sql: string, ...values: SQLInputValue[]): Row | undefined {
    return guarded(() => this.#prepare(sql).get(...values));
  }

  /** All rows. */
  all(sql: string, ...values: SQLInputValue[]): Row[] {
    return guarded(() => this.#prepare(sql).all(...values));
  }

  /** Rows one by one, for tables that may be large. */
  each(sql: string, ...values: SQLInputValue[]): IterableIterator<Row> {
    return this.#prepare(sql).iterate(...values);
  }

  /** All of it happens or nothing. IMMEDIATE, so that what was read cannot be outdated by another process. */
  transaction<T>(work: () => T): T {
    if (this.#depth > 0) return work();
    guarded(() => this.#db.exec("BEGIN IMMEDIATE"));
    this.#depth++;
    let result: T;
    try {
      result = work();
      guarded(() => this.#db.exec("COMMIT"));
    } catch (error) {
      this.#committed = [];
      // SQLite has already rolled back after some errors, a full disk among them.
      if (this.#db.isTransaction) this.#db.exec("ROLLBACK");
      throw error;
    } finally {
      this.#depth--;
    }
    for (const then of this.#committed.splice(0)) then();
    return result;
  }

  /** Everything read in it is of one moment, whatever others write meanwhile. */
  snapshot<T>(work: () => T): T {
    this.#db.exec("BEGIN");
    try {
      return work();
    } finally {
      this.#db.exec("COMMIT");
    }
  }

  /** Runs something once what is being written now is durable, and never if it is rolled back. */
  afterCommit(then: () => void): void {
    if (this.#depth > 0) this.#committed.push(then);
    else then();
  }

  close(): void {
    this.#statements.clear();
    this.#db.close();
  }
}

/** What SQLite says is no fault of whoever asked: a full disk, a lock held too long, a damaged file. */
function guarded<T>(work: () => T): T {
  try {
    return work();
  } catch (cause) {
    if (cause instanceof Error && (cause as NodeJS.ErrnoException).code === "ERR_SQLITE_ERROR") {
      throw new BrokerError("DATABASE_UNUSABLE", "unavailable", "the broker's database refuses", { cause });
    }
    throw cause;
  }
}

/** A column that is text. */
export function text(row: Row, column: string): string {
  const value = row[column];
  if (typeof value !== "string") throw unexpected(column, "text");
  return value;
}

/** A column that is text or null. */
export function textOrNull(row: Row, column: string): string | null {
  return row[column] === null ? null : text(row, column);
}

/** A column that is an integer. */
export function integer(row: Row, column: string): number {
  const value = row[column];
  if (typeof value !== "number") throw unexpected(column, "an integer");
  return value;
}

/** A column that is bytes. */
export function bytes(row: Row, column: string): Uint8Array {
  const value = row[column];
  if (!(value instanceof Uint8Array)) throw unexpected(column, "bytes");
  return value;
}

/** A column that is bytes or null. */
export function bytesOrNull(row: Row, column: string): Uint8Array | null {
  return row[column] === null ? null : bytes(row, column);
}

function unexpected(column: string, wanted: string): BrokerError {
  return new BrokerError(
    "DATABASE_UNUSABLE",
    "unavailable",
    `column ${column} of the database is not ${wanted}`,
  );
}
