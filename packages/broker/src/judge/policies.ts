import type { PolicyRule } from "../api.ts";
import { type Database, integer, type Row, text } from "../state/database.ts";
import { covers, type ResourcePath, type ResourcePattern } from "../wire/resource-path.ts";

/** What decides whether a workload may have a resource. */
export interface ResourcePolicy {
  allows(workloads: readonly string[], path: ResourcePath): PolicyRule | null;
}

/** Rules `WORKLOAD may have PATTERN`; what no rule allows is refused. */
export class Policies implements ResourcePolicy {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** The first rule that allows it, or null. */
  allows(workloads: readonly string[], path: ResourcePath): PolicyRule | null {
    for (const workload of workloads) {
      for (const row of this.#db.all("SELECT * FROM policies WHERE workload = ? ORDER BY id", workload)) {
        if (covers(text(row, "pattern") as ResourcePattern, path)) return readRule(row);
      }
    }
    return null;
  }

  add(workload: string, pattern: ResourcePattern, now: Date): PolicyRule {
    return this.#db.transaction(() => {
      this.#db.run(
        "INSERT INTO policies (workload, pattern, added) VALUES (?, ?, ?) ON CONFLICT (workload, pattern) DO NOTHING",
        workload,
        pattern,
        now.toISOString(),
      );
      const row = this.#db.one(
        "SELECT * FROM policies WHERE workload = ? AND pattern = ?",
        workload,
        pattern,
      );
      return row
        ? readRule(row)
        : { id: 0, workload, pattern: `kbs:///${pattern}`, added: now.toISOString() };
    });
  }

  list(): PolicyRule[] {
    return this.#db.all("SELECT * FROM policies ORDER BY workload, id").map(readRule);
  }

  remove(workload: string, pattern: ResourcePattern): boolean {
    return this.#db.run("DELETE FROM policies WHERE workload = ? AND pattern = ?", workload, pattern) > 0;
  }
}

function readRule(row: Row): PolicyRule {
  return {
    id: integer(row, "id"),
    workload: text(row, "workload"),
    pattern: `kbs:///${text(row, "pattern")}`,
    added: text(row, "added"),
  };
}
