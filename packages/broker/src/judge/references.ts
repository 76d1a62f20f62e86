import { pcrMeaning } from "@shelter/attest";
import { canonicalJson, digestOf, type Json, type JsonObject, parseDigest, parseJson } from "@shelter/base";
import type { ReferenceDocument, ReferenceInfo, ReferenceValue } from "../api.ts";
import { BrokerError } from "../errors.ts";
import { type Database, integer, type Row, text, textOrNull } from "../state/database.ts";

const WORKLOAD = /^[a-z0-9]+(?:[._/-][a-z0-9]+)*(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?$/;
const MAX_VALUES = 512; // vCPU counts times memory sizes of one image; more is not a measurement of anything
const MAX_SHAPE = 1024;
const MAX_EVENTS = 256;
const MAX_WHAT = 1024; // a command line is in one

/**
 * What a reference value of each platform must name at least: firmware, option ROMs (they run before the
 * kernel and could alter it in memory), kernel, secure boot state, initrd and command line.
 */
export const REQUIRED_PCRS: Readonly<Record<string, readonly string[]>> = { vtpm: ["0", "2", "4", "7", "9"] };

/** Reads a workload's name: an image name without its registry's capitals. */
export function parseWorkload(value: Json | undefined): string {
  if (typeof value !== "string" || value.length > 255 || !WORKLOAD.test(value)) {
    throw new BrokerError(
      "WORKLOAD_MALFORMED",
      "malformed",
      `workload ${(JSON.stringify(value) ?? "nothing").slice(0, 120)} is not a name such as demo or team/app:1`,
    );
  }
  return value;
}

/** Reads a reference document (docs/formats.md) and refuses one that would match too much. */
export function parseReferenceDocument(value: Json): ReferenceDocument {
  const document = object(value, "reference document", ["version", "workload", "image", "values"]);
  if (document["version"] !== 1) throw malformed(`version ${JSON.stringify(document["version"])} is not 1`);
  const values = document["values"];
  if (!Array.isArray(values) || values.length === 0 || values.length > MAX_VALUES) {
    throw malformed(`values is not a list of 1 to ${MAX_VALUES}`);
  }
  const image = document["image"] ?? null;
  return {
    version: 1,
    workload: parseWorkload(document["workload"]),
    image: image === null ? null : parseDigest(image),
    values: (values as readonly Json[]).map((v, i) => parseValue(v, `values[${i}]`)),
  };
}

function parseValue(value: Json, where: string): ReferenceValue {
  const entry = object(value, where, ["platform", "shape", "pcrs", "events"]);
  const platform = entry["platform"];
  if (typeof platform !== "string" || !Object.hasOwn(REQUIRED_PCRS, platform)) {
    throw new BrokerError(
      "REFERENCE_MALFORMED",
      "malformed",
      `${where}.platform ${JSON.stringify(platform) ?? "nothing"} is not one of ${Object.keys(REQUIRED_PCRS).join(", ")}`,
    );
  }
  const shape =
    entry["shape"] === undefined || entry["shape"] === null ? null : object(entry["shape"], `${where}.shape`);
  if (shape !== null && canonicalJson(shape).length > MAX_SHAPE)
    throw malformed(`${where}.shape is too long`);
  const pcrs = object(entry["pcrs"], `${where}.pcrs`);
  const read: Record<string, string> = {};
  for (const [number, digest] of Object.entries(pcrs)) {
    if (!/^(?:[0-9]|1[0-9]|2[0-3])$/.test(number))
      throw malformed(`${where}.pcrs has ${JSON.stringify(number)}, not 0 to 23`);
    if (typeof digest !== "string" || !/^[0-9a-fA-F]{64}$/.test(digest)) {
      throw malformed(`${where}.pcrs[${number}] is not 64 hex digits`);
    }
    read[number] = digest.toLowerCase();
  }
  const absent = (REQUIRED_PCRS[platform] ?? []).filter((pcr) => read[pcr] === undefined);
  if (absent.length > 0) {
    throw new BrokerError(
      "REFERENCE_TOO_WEAK",
      "refused",
      `${where} does not name PCR ${absent.join(", ")}; it would match guests whose ${absent.map((pcr) => pcrMeaning(Number(pcr))).join(", ")} nobody checked`,
    );
  }
  const events = parseEvents(entry["events"], `${where}.events`);
  return { platform, shape, pcrs: read, ...(events.length === 0 ? {} : { events }) };
}

function parseEvents(value: Json | undefined, where: string): NonNullable<ReferenceValue["events"]> {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.length > MAX_EVENTS)
    throw malformed(`${where} is not a list of at most ${MAX_EVENTS}`);
  return (value as readonly Json[]).map((event, i) => {
    const { pcr, digest, what } = object(event, `${where}[${i}]`, ["pcr", "digest", "what"]);
    if (typeof pcr !== "number" || !Number.isInteger(pcr) || pcr < 0 || pcr > 23) {
      throw malformed(`${where}[${i}].pcr is not 0 to 23`);
    }
    if (typeof digest !== "string" || !/^[0-9a-f]{64}$/.test(digest)) {
      throw malformed(`${where}[${i}].digest is not 64 lower-case hex digits`);
    }
    if (typeof what !== "string" || what.length > MAX_WHAT)
      throw malformed(`${where}[${i}].what is not a short text`);
    return { pcr, digest, what };
  });
}

/** Reference values by workload. */
export class References {
  readonly #db: Database;

  constructor(db: Database) {
    this.#db = db;
  }

  /** Adds what is not there yet; returns every value of the document as stored. */
  add(document: ReferenceDocument, now: Date): ReferenceInfo[] {
    return this.#db.transaction(() =>
      document.values.map((value) => {
        const { platform, shape, pcrs } = value;
        const digest = digestOf(canonicalJson({ image: document.image, pcrs, platform, shape }));
        this.#db.run(
          `INSERT INTO reference_values (workload, image, platform, shape, pcrs, events, digest, added)
           VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (workload, digest) DO NOTHING`,
          document.workload,
          document.image,
          platform,
          canonicalJson(shape),
          canonicalJson(pcrs),
          canonicalJson(value.events ?? []),
          digest,
          now.toISOString(),
        );
        const row = this.#db.one(
          "SELECT * FROM reference_values WHERE workload = ? AND digest = ?",
          document.workload,
          digest,
        );
        if (!row) throw new BrokerError("DATABASE_UNUSABLE", "bug", "a reference value was not stored");
        return readReference(row);
      }),
    );
  }

  list(workload?: string): ReferenceInfo[] {
    const rows =
      workload === undefined
        ? this.#db.all("SELECT * FROM reference_values ORDER BY workload, id")
        : this.#db.all("SELECT * FROM reference_values WHERE workload = ? ORDER BY id", workload);
    return rows.map(readReference);
  }

  ofPlatform(platform: string): ReferenceInfo[] {
    return this.#db
      .all("SELECT * FROM reference_values WHERE platform = ? ORDER BY id", platform)
      .map(readReference);
  }

  removeId(id: number): number {
    return this.#db.run("DELETE FROM reference_values WHERE id = ?", id);
  }

  removeWorkload(workload: string, image: string | null): number {
    return image === null
      ? this.#db.run("DELETE FROM reference_values WHERE workload = ?", workload)
      : this.#db.run("DELETE FROM reference_values WHERE workload = ? AND image = ?", workload, image);
  }
}

function readReference(row: Row): ReferenceInfo {
  const events = parseJson(text(row, "events"), "stored events") as NonNullable<ReferenceValue["events"]> &
    Json;
  return {
    id: integer(row, "id"),
    workload: text(row, "workload"),
    image: textOrNull(row, "image"),
    platform: text(row, "platform"),
    shape: parseJson(text(row, "shape"), "stored shape") as JsonObject | null,
    pcrs: parseJson(text(row, "pcrs"), "stored PCRs") as Record<string, string>,
    ...(events.length === 0 ? {} : { events }),
    added: text(row, "added"),
  };
}

function object(value: Json | undefined, what: string, members?: readonly string[]): JsonObject {
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw malformed(`${what} is not an object`);
  for (const key of Object.keys(value)) {
    if (members && !members.includes(key))
      throw malformed(`${what} has the unknown key ${JSON.stringify(key)}`);
  }
  return value as JsonObject;
}

function malformed(message: string): BrokerError {
  return new BrokerError("REFERENCE_MALFORMED", "malformed", message);
}
