import { SecretBytes } from "@shelter/base";
import type { SecretInfo } from "../api.ts";
import { BrokerError } from "../errors.ts";
import { type ResourcePath, resourceUri } from "../wire/resource-path.ts";
import { bytes, type Database, integer, type Row, text } from "./database.ts";
import type { MasterKey } from "./master-key.ts";

/** Largest value; the wire's body limit is the same. */
export const MAX_RESOURCE = 2 * 1024 * 1024;

const PURPOSE = "resource";

/** Secrets at rest: only ciphertext reaches the database, bound to its path and version. */
export class Resources {
  readonly #db: Database;
  readonly #master: MasterKey;

  constructor(db: Database, master: MasterKey) {
    this.#db = db;
    this.#master = master;
  }

  /** Stores a value under the next version; the value before it is gone. */
  put(path: ResourcePath, value: Uint8Array, now: Date): SecretInfo {
    if (value.byteLength > MAX_RESOURCE) {
      throw new BrokerError(
        "RESOURCE_TOO_LARGE",
        "malformed",
        `resource ${path} has ${value.byteLength} bytes, at most ${MAX_RESOURCE} are stored`,
      );
    }
    return this.#db.transaction(() => {
      this.#db.run(
        "INSERT INTO resource_versions (path, last) VALUES (?, 1) ON CONFLICT (path) DO UPDATE SET last = last + 1",
        path,
      );
      const counted = this.#db.one("SELECT last FROM resource_versions WHERE path = ?", path);
      const version = counted ? integer(counted, "last") : 1;
      const sealed = this.#master.seal(PURPOSE, `${path}@${version}`, value);
      const time = now.toISOString();
      this.#db.run(
        `INSERT INTO resources (path, version, sealed, size, created, updated) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (path) DO UPDATE SET version = excluded.version, sealed = excluded.sealed,
           size = excluded.size, updated = excluded.updated`,
        path,
        version,
        sealed,
        value.byteLength,
        time,
        time,
      );
      return (
        this.info(path) ?? {
          path,
          uri: resourceUri(path),
          version,
          size: value.byteLength,
          created: time,
          updated: time,
        }
      );
    });
  }

  info(path: ResourcePath): SecretInfo | null {
    const row = this.#db.one(
      "SELECT path, version, size, created, updated FROM resources WHERE path = ?",
      path,
    );
    return row ? readInfo(row) : null;
  }

  list(): SecretInfo[] {
    return this.#db
      .all("SELECT path, version, size, created, updated FROM resources ORDER BY path")
      .map(readInfo);
  }

  /** The value and its version, or null when there is none. */
  open(path: ResourcePath): { version: number; value: SecretBytes } | null {
    const row = this.#db.one("SELECT version, sealed FROM resources WHERE path = ?", path);
    if (!row) return null;
    const version = integer(row, "version");
    return {
      version,
      value: new SecretBytes(this.#master.open(PURPOSE, `${path}@${version}`, bytes(row, "sealed"))),
    };
  }

  /** Whether there was one. */
  delete(path: ResourcePath): boolean {
    return this.#db.run("DELETE FROM resources WHERE path = ?", path) > 0;
  }
}

function readInfo(row: Row): SecretInfo {
  const path = text(row, "path") as ResourcePath;
  return {
    path,
    uri: resourceUri(path),
    version: integer(row, "version"),
    size: integer(row, "size"),
    created: text(row, "created"),
    updated: text(row, "updated"),
  };
}
