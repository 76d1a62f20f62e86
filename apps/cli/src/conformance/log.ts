import {
  CheckList,
  checkContents,
  checkReplay,
  parseEventLog,
  type RoleFiles,
  replay,
  type TpmHash,
  type Verdict,
} from "@shelter/attest";
import { describe, fromHex, type Json, ShelterError, toHex } from "@shelter/base";
import { CorpusError, type CorpusItem } from "./corpus.ts";

const PCR_FIELDS = ["pcrs_to_match", "pcrs_replayed", "pcrs_from_upstream_test"];
const REGISTER_FIELD = "mr_from_upstream_or_replay";

/** Judges an event log against the register values the item gives, whoever took them. */
export function judgeLogItem(item: CorpusItem, files: RoleFiles): Verdict {
  const bytes = files["log"] ?? files["ccel"] ?? files["event_log"];
  if (bytes === undefined) throw new CorpusError("CORPUS_MALFORMED", `${item.id}: no log`);
  const checks = new CheckList();
  try {
    const log = parseEventLog(bytes);
    const fields = asObject(item.expected["fields"]);
    const claims: Record<string, unknown> = {
      events: log.events.length,
      format: log.format,
      parsed_bytes: log.parsedBytes,
      file_bytes: bytes.length,
    };
    checks.add({
      name: "eventlog-form",
      ok: true,
      failure: "malformed",
      claimed: `${log.events.length} events`,
    });
    for (const field of PCR_FIELDS) {
      if (fields[field] === undefined) continue;
      const banks: Record<string, unknown> = {};
      for (const [bank, values] of Object.entries(asObject(fields[field]))) {
        const known = registers(values);
        checkReplay(log, bank as TpmHash, known, checks, { complete: "all" });
        banks[bank] = hexes(replay(log, bank as TpmHash), known);
      }
      // What was to be matched is an input, not something a log could claim.
      claims[field] = field === "pcrs_to_match" ? fields[field] : banks;
    }
    const mr = fields[REGISTER_FIELD];
    if (mr !== undefined && typeof fields["hash"] === "string") {
      const bank = fields["hash"] as TpmHash;
      const known = registers(mr);
      checkReplay(log, bank, known, checks, { register: "measurement register", complete: "all" });
      claims["hash"] = log.banks.includes(bank) ? bank : log.banks.join(" ");
      claims[REGISTER_FIELD] = hexes(replay(log, bank), known);
    }
    checkContents(log, checks);
    return checks.verdict("event-log", claims);
  } catch (error) {
    if (!(error instanceof ShelterError) || error.kind !== "malformed") throw error;
    checks.add({ name: "eventlog-form", ok: false, failure: "malformed", detail: describe(error) });
    return checks.verdict("event-log", {});
  }
}

function asObject(value: Json | undefined): Readonly<Record<string, Json | undefined>> {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Readonly<Record<string, Json | undefined>>)
    : {};
}

function registers(values: Json | undefined): Map<number, Uint8Array> {
  return new Map(
    Object.entries(asObject(values)).map(([pcr, value]) => [Number(pcr), fromHex(String(value))]),
  );
}

function hexes(
  replayed: ReadonlyMap<number, Uint8Array>,
  known: ReadonlyMap<number, Uint8Array>,
): Record<string, string> {
  const values: Record<string, string> = {};
  for (const [pcr, expected] of known) {
    // A register without events holds what it started with.
    values[pcr] = toHex(replayed.get(pcr) ?? new Uint8Array(expected.length));
  }
  return values;
}
