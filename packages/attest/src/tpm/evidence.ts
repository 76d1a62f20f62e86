import { createPublicKey, type KeyObject } from "node:crypto";
import { fromBase64, fromHex, type Json, type JsonObject } from "@shelter/base";
import { type EventLog, parseEventLog } from "../eventlog/index.ts";
import { type Certificate, parseCertificate } from "../x509/index.ts";
import type { TpmHash } from "./algorithm.ts";
import { type PcrBanks, parseTpmQuote, type TpmQuote } from "./attest.ts";
import { TpmError } from "./error.ts";
import { parseTpm2bPublic, parseTpmPublic, publicKeyOf, type TpmPublic } from "./public.ts";
import { parseTpmSignature, type TpmSignature } from "./signature.ts";

/** Evidence of a TPM, parsed; nothing in it is believed yet. */
export interface TpmEvidence {
  readonly quote: TpmQuote;
  readonly signature: TpmSignature;
  /** The attestation key that is said to have signed. */
  readonly akPublic: KeyObject;
  readonly akTpmPublic?: TpmPublic;
  readonly pcrs?: PcrBanks;
  readonly eventLog?: EventLog;
  readonly ekCertificate?: Certificate;
  readonly activation?: Uint8Array;
}

const MAX_MEMBER = 4 * 1024 * 1024; // characters of base64; event logs stay under 256 KiB

function member(object: JsonObject, key: string): Uint8Array | undefined {
  const value = object[key];
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string" || value.length > MAX_MEMBER) {
    throw new TpmError(
      "TPM_EVIDENCE_MALFORMED",
      `tpm evidence: ${key} is not base64 of at most ${MAX_MEMBER} characters`,
    );
  }
  try {
    return fromBase64(value);
  } catch (cause) {
    throw new TpmError("TPM_EVIDENCE_MALFORMED", `tpm evidence: ${key} is not base64`, { cause });
  }
}

function required(object: JsonObject, key: string): Uint8Array {
  const value = member(object, key);
  if (value === undefined) throw new TpmError("TPM_EVIDENCE_MALFORMED", `tpm evidence: ${key} is missing`);
  return value;
}

/** Whether JSON is an object; arrays are not. */
export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Parses the `tpm` evidence of docs/formats.md, which is Trustee's form and up to four members more. */
export function parseTpmEvidence(json: Json): TpmEvidence {
  if (!isObject(json) || !isObject(json["tpm_quote"])) {
    throw new TpmError("TPM_EVIDENCE_MALFORMED", "tpm evidence: tpm_quote is missing");
  }
  const quote = json["tpm_quote"];
  const akTpm = member(json, "ak_tpm_public");
  const log = member(json, "event_log");
  const ek = member(json, "ek_certificate");
  const activation = member(json, "activation");
  return {
    quote: parseTpmQuote(required(quote, "message")),
    signature: parseTpmSignature(required(quote, "signature")),
    akPublic: spkiKey(required(json, "ak_public")),
    pcrs: new Map([["sha256", parsePcrList(quote["pcrs"])]]),
    ...(akTpm === undefined ? {} : { akTpmPublic: parseTpm2bPublic(akTpm) }),
    ...(log === undefined ? {} : { eventLog: parseEventLog(log) }),
    ...(ek === undefined ? {} : { ekCertificate: parseCertificate(ek, "ek_certificate") }),
    ...(activation === undefined ? {} : { activation }),
  };
}

/** The 24 SHA-256 values of PCR 0 to 23, as hex. */
export function parsePcrList(list: Json | undefined): Map<number, Uint8Array> {
  if (!Array.isArray(list) || list.length !== 24) {
    throw new TpmError("TPM_EVIDENCE_MALFORMED", "tpm evidence: pcrs is not a list of 24 values");
  }
  return new Map(list.map((value: Json, pcr: number) => [pcr, pcrValue(value, `pcrs[${pcr}]`, 32)]));
}

function pcrValue(value: Json | undefined, what: string, size?: number): Uint8Array {
  if (typeof value !== "string" || !/^(?:[0-9a-fA-F]{2}){20,64}$/.test(value)) {
    throw new TpmError("TPM_EVIDENCE_MALFORMED", `tpm evidence: ${what} is not a PCR value`);
  }
  if (size !== undefined && value.length !== size * 2) {
    throw new TpmError("TPM_EVIDENCE_MALFORMED", `tpm evidence: ${what} is not ${size} bytes`);
  }
  return fromHex(value);
}

const BANKS: ReadonlySet<string> = new Set<TpmHash>(["sha1", "sha256", "sha384", "sha512", "sm3"]);

/** Hex digits of a value to its bank, for values that do not name it. */
const BANK_BY_DIGITS: Readonly<Record<number, TpmHash>> = {
  40: "sha1",
  64: "sha256",
  96: "sha384",
  128: "sha512",
};

/** PCR values as `{"sha256": {"0": "<hex>"}}`, or of one bank as `{"0": "<hex>"}`. */
export function parsePcrBanks(json: Json): PcrBanks {
  if (!isObject(json)) throw new TpmError("TPM_EVIDENCE_MALFORMED", "PCR values: not an object");
  const [first] = Object.values(json);
  const only = typeof first === "string" ? BANK_BY_DIGITS[first.length] : undefined;
  if (only !== undefined) return parsePcrBanks({ [only]: json });
  const banks = new Map<TpmHash, Map<number, Uint8Array>>();
  for (const [bank, values] of Object.entries(json)) {
    if (!BANKS.has(bank) || !isObject(values)) {
      throw new TpmError(
        "TPM_EVIDENCE_MALFORMED",
        `PCR values: ${JSON.stringify(bank.slice(0, 40))} is no bank of PCRs`,
      );
    }
    const parsed = new Map<number, Uint8Array>();
    for (const [key, value] of Object.entries(values)) {
      if (!/^(?:0|[12]?[0-9]|3[01])$/.test(key)) {
        throw new TpmError(
          "TPM_EVIDENCE_MALFORMED",
          `PCR values: ${JSON.stringify(key.slice(0, 40))} is no PCR`,
        );
      }
      parsed.set(Number(key), pcrValue(value, `${bank} ${key}`));
    }
    banks.set(bank as TpmHash, parsed);
  }
  return banks;
}

function spkiKey(der: Uint8Array): KeyObject {
  try {
    return createPublicKey({ key: Buffer.from(der), format: "der", type: "spki" });
  } catch (cause) {
    throw new TpmError("TPM_EVIDENCE_MALFORMED", "tpm evidence: ak_public is not a public key", { cause });
  }
}

/** A public key in any form a file may have: PEM, SubjectPublicKeyInfo, TPMT_PUBLIC or TPM2B_PUBLIC. */
export function readPublicKeyFile(bytes: Uint8Array): { key: KeyObject; area?: TpmPublic } {
  if (bytes[0] === 0x2d) {
    try {
      return { key: createPublicKey(Buffer.from(bytes)) };
    } catch (cause) {
      throw new TpmError("TPM_EVIDENCE_MALFORMED", "attestation key: not a PEM public key", { cause });
    }
  }
  if (bytes[0] === 0x30) return { key: spkiKey(bytes) };
  const sized = ((bytes[0] ?? 0) << 8) + (bytes[1] ?? 0) === bytes.length - 2;
  const area = sized ? parseTpm2bPublic(bytes) : parseTpmPublic(bytes);
  return { key: publicKeyOf(area), area };
}
