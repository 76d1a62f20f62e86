import { createHash } from "node:crypto";
import { canonicalJson, type Json, type JsonObject, parseJson } from "@shelter/base";
import { BrokerError } from "../errors.ts";
import { parseTeeKey, type TeeKey } from "./tee-key.ts";

/** The one protocol version Trustee's clients and ours speak (kbs-types 0.16). */
export const PROTOCOL_VERSION = "0.4.0";

/** All names a `tee` may have; what this broker verifies is decided elsewhere. */
const TEES: readonly string[] = [
  "az-snp-vtpm",
  "az-tdx-vtpm",
  "cca",
  "csv",
  "hygondcu",
  "nvidia",
  "sample",
  "sampledevice",
  "se",
  "sgx",
  "snp",
  "tdx",
  "tpm",
];

/** Body of `POST /kbs/v0/auth`. */
export interface AuthRequest {
  readonly tee: string;
  readonly extraParams: Json;
}

/** Body of `POST /kbs/v0/attest`. */
export interface AttestRequest {
  readonly nonce: string;
  readonly teeKey: TeeKey;
  readonly primaryEvidence: Json;
  readonly additionalEvidence: string;
  readonly hasInitData: boolean;
}

/** Reads the body of an auth request. */
export function parseAuthRequest(body: string): AuthRequest {
  const request = object(parseJson(body, "auth request"), "auth request");
  const version = request["version"];
  if (typeof version !== "string" || !sameVersion(version)) {
    throw malformed(`protocol version ${shown(version)} is not ${PROTOCOL_VERSION}`);
  }
  const tee = request["tee"];
  if (typeof tee !== "string" || !TEES.includes(tee)) throw malformed(`tee ${shown(tee)} is not known`);
  return { tee, extraParams: request["extra-params"] ?? "" };
}

/** SemVer `=0.4.0`: build metadata does not count, a pre-release is another version. */
function sameVersion(version: string): boolean {
  return /^0\.4\.0(?:\+[0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*)?$/.test(version);
}

/** Reads the body of an attest request. */
export function parseAttestRequest(body: string): AttestRequest {
  const request = object(parseJson(body, "attest request"), "attest request");
  const runtime = object(request["runtime-data"], "runtime-data");
  const evidence = object(request["tee-evidence"], "tee-evidence");
  const nonce = runtime["nonce"];
  if (typeof nonce !== "string") throw malformed("runtime-data has no nonce");
  const primary = evidence["primary_evidence"];
  if (primary === undefined || primary === null) throw malformed("tee-evidence has no primary_evidence");
  const additional = evidence["additional_evidence"] ?? "";
  if (typeof additional !== "string") throw malformed("additional_evidence is not text");
  const initData = request["init-data"];
  return {
    nonce,
    teeKey: parseTeeKey(runtime["tee-pubkey"]),
    primaryEvidence: primary,
    additionalEvidence: additional,
    hasInitData: initData !== undefined && initData !== null,
  };
}

/** What evidence must carry: SHA-384 over the canonical JSON of the session's nonce and the guest's key. */
export function reportData(nonce: string, teeKey: JsonObject, additionalEvidence: string): Uint8Array {
  const covered = { "additional-evidence": additionalEvidence, nonce, "tee-pubkey": teeKey };
  return createHash("sha384").update(canonicalJson(covered)).digest();
}

function object(value: Json | undefined, what: string): JsonObject {
  if (value === null || typeof value !== "object" || Array.isArray(value))
    throw malformed(`${what} is not an object`);
  return value as JsonObject;
}

function shown(value: Json | undefined): string {
  return (JSON.stringify(value) ?? "nothing").slice(0, 60);
}

function malformed(message: string): BrokerError {
  return new BrokerError("REQUEST_MALFORMED", "malformed", message);
}
