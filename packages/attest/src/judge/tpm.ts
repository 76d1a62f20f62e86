import { parseJson, sameBytes } from "@shelter/base";
import { readQuoteSignature } from "../azure/index.ts";
import { parseEventLog } from "../eventlog/index.ts";
import {
  type PcrBanks,
  parsePcrBanks,
  parsePcrList,
  parseTpmEvidence,
  parseTpmQuote,
  readPublicKeyFile,
  type TpmEvidence,
  verifyTpmEvidence,
  verifyTpmQuote,
} from "../tpm/index.ts";
import { CheckList, type Verdict } from "../verdict.ts";
import { type Certificate, keyObject, parseCertificates, verifyChain } from "../x509/index.ts";
import { need, type RoleFiles, type RoleRequest } from "./files.ts";
import { present } from "./present.ts";

/** Quotes over further banks come as `quote_BANK`, `signature_BANK` and `pcrs_BANK`. */
const FURTHER = /^quote_(sha1|sha256|sha384|sha512|sm3)$/;

/** Judges a TPM quote given as files. Without endorsement files the attestation key is the caller's word. */
export function judgeTpmFiles({ files, at, expect }: RoleRequest): Verdict {
  const evidence = readEvidence(files);
  const verdict = verifyTpmEvidence(
    present({
      evidence,
      nonce: expect.reportData,
      trust: { by: "caller" } as const,
      expectations: present({ references: expect.pcrs, secureBoot: expect.secureBoot }),
      at,
    }),
  );
  const checks = new CheckList();
  checks.adopt(verdict);
  const certificate = files["ak_cert"];
  if (certificate !== undefined) judgeCertificate(certificate, evidence, files, at, checks);
  judgeFurtherBanks(files, evidence, expect.reportData, checks);
  return checks.verdict("tpm", verdict.claims);
}

function text(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}

function readEvidence(files: RoleFiles): TpmEvidence {
  const json = files["evidence_json"];
  if (json !== undefined) return parseTpmEvidence(parseJson(text(json), "tpm evidence"));
  const { key, area } = readPublicKeyFile(need(files, "ak_pub"));
  const pcrs = files["pcrs"];
  const log = files["event_log"] ?? files["ccel"];
  return present({
    quote: parseTpmQuote(need(files, "quote")),
    signature: readQuoteSignature(need(files, "signature")),
    akPublic: key,
    akTpmPublic: area,
    pcrs: pcrs === undefined ? undefined : readPcrs(pcrs),
    eventLog: log === undefined ? undefined : parseEventLog(log),
  });
}

function readPcrs(bytes: Uint8Array): PcrBanks {
  const json = parseJson(text(bytes), "PCR values");
  return Array.isArray(json) ? new Map([["sha256", parsePcrList(json)]]) : parsePcrBanks(json);
}

/** A certificate over the attestation key: it must be of that key and, where a root is given, chain to it. */
function judgeCertificate(
  bytes: Uint8Array,
  evidence: TpmEvidence,
  files: RoleFiles,
  at: Date,
  checks: CheckList,
): void {
  const [leaf, ...others] = parseCertificates(bytes, "ak_cert");
  if (leaf === undefined) return;
  const key = keyObject(leaf.publicKey);
  const form = { format: "der", type: "spki" } as const;
  checks.add({
    name: "ak-certificate-key",
    ok: key !== undefined && sameBytes(key.export(form), evidence.akPublic.export(form)),
    failure: "untrusted",
    claimed: leaf.subject.text,
  });
  const root = files["root"];
  if (root === undefined) return;
  const list = (role: string): Certificate[] => {
    const file = files[role];
    return file === undefined ? [] : parseCertificates(file, role);
  };
  verifyChain({
    leaf,
    intermediates: [...others, ...list("ca"), ...list("ak_chain"), ...list("intermediates")],
    anchors: parseCertificates(root, "root"),
    at,
    checks,
    label: "ak-certificate",
  });
}

function judgeFurtherBanks(
  files: RoleFiles,
  evidence: TpmEvidence,
  nonce: Uint8Array | undefined,
  checks: CheckList,
): void {
  for (const [role, file] of Object.entries(files)) {
    const bank = FURTHER.exec(role)?.[1];
    if (bank === undefined || file === undefined) continue;
    const pcrs = files[`pcrs_${bank}`];
    verifyTpmQuote(
      present({
        quote: parseTpmQuote(file),
        signature: readQuoteSignature(need(files, `signature_${bank}`)),
        key: evidence.akPublic,
        nonce,
        pcrs: pcrs === undefined ? undefined : readPcrs(pcrs),
        checks,
        label: `quote-${bank}`,
      }),
    );
  }
}
