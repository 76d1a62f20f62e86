import { fromHex, type Json, type JsonObject, parseJson } from "@shelter/base";
import {
  type PcrBanks,
  parseTpmQuote,
  parseTpmSignature,
  type TpmQuote,
  type TpmSignature,
} from "../tpm/index.ts";
import { AzureError } from "./error.ts";
import { type HclReport, parseHclReport } from "./hcl.ts";

/** Evidence of an Azure confidential VM with a vTPM (Trustee's `az-snp-vtpm` and `az-tdx-vtpm`), parsed. */
export interface AzureEvidence {
  readonly hcl: HclReport;
  readonly quote: TpmQuote;
  readonly signature: TpmSignature;
  readonly pcrs?: PcrBanks;
  /** VCEK certificate, DER or PEM (SNP). */
  readonly vcek?: Uint8Array;
  /** TD quote (TDX). */
  readonly tdQuote?: Uint8Array;
}

const MAX_EVIDENCE = 1024 * 1024;
const RSA_BYTES: ReadonlySet<number> = new Set([256, 384, 512]);

function bad(message: string, cause?: unknown): AzureError {
  return new AzureError("AZURE_EVIDENCE_MALFORMED", `azure evidence: ${message}`, { cause });
}

/**
 * Bytes in any of the forms the versions of this evidence use: hex, base64 of either alphabet, PEM
 * or a list of numbers. Which one is no security question: what they say is checked afterwards.
 */
function bytes(value: Json | undefined, what: string): Uint8Array {
  if (Array.isArray(value)) {
    if (!value.every((b) => Number.isInteger(b) && (b as number) >= 0 && (b as number) < 256)) {
      throw bad(`${what} is not a list of bytes`);
    }
    return Uint8Array.from(value as number[]);
  }
  if (typeof value !== "string") throw bad(`${what} is missing`);
  if (/^(?:[0-9a-fA-F]{2})+$/.test(value)) return fromHex(value);
  if (value.startsWith("-----BEGIN ")) return Buffer.from(value, "latin1");
  if (!/^[A-Za-z0-9+/_-]+={0,2}$/.test(value)) throw bad(`${what} is neither hex nor base64`);
  return new Uint8Array(Buffer.from(value, "base64url"));
}

/** A TPMT_SIGNATURE, or the bare RSASSA SHA-256 signature Azure's agents cut out of it. */
export function readQuoteSignature(signature: Uint8Array): TpmSignature {
  return RSA_BYTES.has(signature.length)
    ? { kind: "rsassa", hash: "sha256", signature }
    : parseTpmSignature(signature);
}

/** Parses the evidence as JSON: version 1, or the older form without a version. */
export function parseAzureEvidence(text: string): AzureEvidence {
  if (text.length > MAX_EVIDENCE) throw bad(`${text.length} characters, at most ${MAX_EVIDENCE}`);
  const json = parseJson(text, "azure evidence");
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw bad("not an object");
  const evidence = json as JsonObject;
  const quote = (evidence["tpm_quote"] ?? evidence["quote"]) as Json | undefined;
  if (typeof quote !== "object" || quote === null || Array.isArray(quote)) throw bad("tpm_quote is missing");
  const parts = quote as JsonObject;
  const list = parts["pcrs"];
  const vcek = evidence["vcek"];
  const tdQuote = evidence["td_quote"];
  return azureEvidence({
    hclReport: bytes(evidence["hcl_report"] ?? evidence["report"], "hcl_report"),
    quote: bytes(parts["message"], "tpm_quote.message"),
    signature: bytes(parts["signature"], "tpm_quote.signature"),
    pcrs: Array.isArray(list) ? list.map((value: Json, i: number) => bytes(value, `pcrs[${i}]`)) : undefined,
    vcek: vcek == null ? undefined : bytes(vcek, "vcek"),
    tdQuote: tdQuote == null ? undefined : bytes(tdQuote, "td_quote"),
  });
}

/** The evidence as separate files. */
export interface AzureFiles {
  readonly hclReport: Uint8Array;
  readonly quote: Uint8Array;
  readonly signature: Uint8Array;
  /** SHA-256 bank from PCR 0 on. */
  readonly pcrs?: readonly Uint8Array[] | undefined;
  readonly vcek?: Uint8Array | undefined;
  readonly tdQuote?: Uint8Array | undefined;
}

/** Parses evidence given as separate files. */
export function azureEvidence(files: AzureFiles): AzureEvidence {
  const { pcrs, vcek, tdQuote } = files;
  if (pcrs !== undefined && (pcrs.length > 24 || pcrs.some((value) => value.length !== 32))) {
    throw bad("pcrs are not up to 24 SHA-256 values");
  }
  return {
    hcl: parseHclReport(files.hclReport),
    quote: parseTpmQuote(files.quote),
    signature: readQuoteSignature(files.signature),
    ...(pcrs === undefined
      ? {}
      : { pcrs: new Map([["sha256", new Map(pcrs.map((value, i) => [i, value]))]]) }),
    ...(vcek === undefined ? {} : { vcek }),
    ...(tdQuote === undefined ? {} : { tdQuote }),
  };
}
