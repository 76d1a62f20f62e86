import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";

/** One item of the evidence corpus beside the repository, as far as these tests read it. */
export interface CorpusItem {
  readonly id: string;
  readonly tee: string;
  readonly kind: string;
  readonly files: Readonly<Record<string, { readonly file: string }>>;
  readonly verify_at: string;
  readonly inputs?: { readonly expected_report_data?: string };
  readonly expected: {
    readonly verdict: "valid" | "invalid" | "policy";
    readonly reasons?: readonly string[];
    readonly fields?: Readonly<Record<string, unknown>>;
    readonly tcb_status?: string;
    readonly tcb_detail?: { readonly advisories: readonly string[] | null };
  };
}

const FOLDER = join(import.meta.dirname, "../../../../shared/evidence");

/** Why tests over the corpus do not run here; undefined when they do. */
export const corpusAbsent: string | undefined = existsSync(join(FOLDER, "index.json"))
  ? undefined
  : `no evidence corpus at ${FOLDER}`;

/** All items of one platform. */
export function corpusItems(tee: string, kind = "evidence"): readonly CorpusItem[] {
  if (corpusAbsent !== undefined) return [];
  const index = JSON.parse(readFileSync(join(FOLDER, "index.json"), "utf8")) as { items: CorpusItem[] };
  return index.items.filter((item) => item.tee === tee && item.kind === kind);
}

/** One item by its id. */
export function corpusItem(tee: string, id: string, kind = "evidence"): CorpusItem {
  const found = corpusItems(tee, kind).find((item) => item.id === id);
  if (found === undefined) throw new Error(`no corpus item ${id}`);
  return found;
}

/** The file of a role, if the item has it. */
export function corpusFile(item: CorpusItem, role: string): Uint8Array | undefined {
  const entry = item.files[role];
  return entry === undefined ? undefined : new Uint8Array(readFileSync(join(FOLDER, entry.file)));
}

/** What the corpus calls an outcome. */
export function corpusVerdict(outcome: string): "valid" | "invalid" | "policy" {
  if (outcome === "accepted") return "valid";
  return outcome === "refused" || outcome === "incomplete" ? "policy" : "invalid";
}

/** An object without the members that are undefined, as inputs with optional members want it. */
export function present<T extends object>(members: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(members).filter(([, v]) => v !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>;
  };
}
