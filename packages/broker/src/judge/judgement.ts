import type { Check } from "@shelter/attest";
import { type Json, type JsonObject, parseJson } from "@shelter/base";
import type { Nearest } from "../api.ts";
import type { Session } from "../state/sessions.ts";
import type { AttestRequest } from "../wire/messages.ts";
import type { Appraisal } from "./platform.ts";

/** What a session's evidence was found to be. */
export interface Judgement {
  readonly outcome: string;
  readonly checks: readonly Check[];
  readonly claims: JsonObject;
  readonly measurements: Readonly<Record<string, string>>;
  readonly workloads: readonly string[];
  readonly nearest: Nearest | null;
  readonly reason: string | null;
}

const MAX_TEXT = 2048; // of anything a client has a hand in
const MAX_CHECKS = 200;
const MAX_CLAIMS = 32 * 1024;

/** The protocol's own bindings, before anybody looks into the evidence. */
export function bindings(session: Session, request: AttestRequest): Check[] {
  const alone = request.additionalEvidence === "" || request.additionalEvidence === "{}";
  return [
    {
      name: "session-nonce",
      ok: request.nonce === session.nonce,
      failure: "untrusted",
      claimed: request.nonce.slice(0, 64),
      expected: session.nonce,
      ...(request.nonce === session.nonce ? {} : { detail: "runtime-data carries another session's nonce" }),
    },
    {
      name: "init-data",
      ok: !request.hasInitData,
      failure: "refused",
      ...(request.hasInitData ? { detail: "init-data is not verified by this broker and must be null" } : {}),
    },
    {
      name: "additional-evidence",
      ok: alone,
      failure: "refused",
      ...(alone ? {} : { detail: "evidence of further devices is not verified by this broker" }),
    },
  ];
}

/** What follows from the checks: every failed one is a reason, and without a workload there is nothing to accept. */
export function conclude(
  checks: readonly Check[],
  appraisal: Appraisal | null,
  workloads: readonly string[],
  nearest: Nearest | null,
): Judgement {
  const failed = checks.filter((c) => !c.ok);
  const claims = appraisal === null ? {} : plain(appraisal.verdict.claims);
  const outcome = appraisal?.verdict.outcome ?? "malformed";
  const reason =
    failed.length > 0
      ? failed.map(sentence).join("; ").slice(0, MAX_TEXT)
      : workloads.length === 0
        ? `evidence is ${outcome}`
        : null;
  return {
    outcome: failed.length > 0 && outcome === "accepted" ? (failed[0]?.failure ?? "refused") : outcome,
    checks: checks.slice(0, MAX_CHECKS).map(shortened),
    claims: JSON.stringify(claims).length > MAX_CLAIMS ? {} : claims,
    measurements: appraisal?.measurements ?? {},
    workloads,
    nearest,
    reason,
  };
}

/** Evidence is up to 2 MiB; what is kept about it is not. */
function shortened(check: Check): Check {
  const cut = (text: string | undefined) => text?.slice(0, MAX_TEXT);
  const { claimed, expected, detail } = check;
  return {
    ...check,
    ...(claimed === undefined ? {} : { claimed: cut(claimed) ?? "" }),
    ...(expected === undefined ? {} : { expected: cut(expected) ?? "" }),
    ...(detail === undefined ? {} : { detail: cut(detail) ?? "" }),
  };
}

/** A failed check for a person: its name, what is wrong, and both values where there are two. */
function sentence(check: Check): string {
  const parts = [check.name];
  if (check.detail !== undefined) parts.push(check.detail);
  if (check.claimed !== undefined) parts.push(`claimed ${check.claimed}`);
  if (check.expected !== undefined) parts.push(`expected ${check.expected}`);
  return `${parts[0]}: ${parts.slice(1).join(", ") || "does not hold"}`;
}

/** A copy that is nothing but JSON, as the database and the audit log keep it. */
export function plain<T extends object>(value: T): T extends readonly unknown[] ? Json : JsonObject {
  return parseJson(JSON.stringify(value), "judgement") as T extends readonly unknown[] ? Json : JsonObject;
}

/** The judgement of a session, empty before there is one. */
export function readJudgement(session: Session): Judgement {
  const none = {
    outcome: "none",
    checks: [],
    claims: {},
    measurements: {},
    workloads: [],
    nearest: null,
    reason: null,
  };
  // Written by conclude() above and by nobody else: the database is ours.
  return session.judgement === null ? none : (session.judgement as object as Judgement);
}
