import { describe, type JsonObject, parseJson, ShelterError, toHex } from "@shelter/base";
import { CA_CERTIFICATE_SIZE, CHIP_CERTIFICATE_SIZE } from "../csv/index.ts";
import { parseCertTable } from "../snp/index.ts";
import { type Certificate, isPem, parseCertificates, parseCrl } from "../x509/index.ts";

/** What a file of collateral is for; the names are the roles of `judgeRoles`. */
export type CollateralRole =
  | "vek"
  | "ca"
  | "crl"
  | "cert_table"
  | "tcb_info"
  | "qe_identity"
  | "tcb_info_chain"
  | "pck_chain"
  | "pck_crl_chain"
  | "pck_crl"
  | "root_crl"
  | "hsk_cek"
  | "cpak";

/** One file of collateral, recognised by its content; nothing of it is believed yet. */
export interface CollateralPiece {
  readonly name: string;
  readonly role: CollateralRole;
  readonly bytes: Uint8Array;
  /** What it speaks about, `tcb info of 90c06f000000 (TDX)`. */
  readonly what: string;
  /** What to choose it by: FMSPC, issuer, chip. */
  readonly key: string;
  /** When it is valid, in milliseconds; undefined where the form has no dates. */
  readonly notBefore: number | undefined;
  readonly notAfter: number | undefined;
}

const SGX_EXTENSION = "1.2.840.113741.1.13.1";
const AMD_HW_ID = "1.3.6.1.4.1.3704.1.4";
const AMD_PRODUCT = "1.3.6.1.4.1.3704.1.2";
const MAX_PIECE = 16 * 1024 * 1024;

/** Recognises a file of collateral; undefined when it is none this library uses. */
export function recognise(name: string, bytes: Uint8Array): CollateralPiece | undefined {
  if (bytes.length === 0 || bytes.length > MAX_PIECE) return undefined;
  try {
    if (bytes.length === CA_CERTIFICATE_SIZE + CHIP_CERTIFICATE_SIZE) {
      return undated(name, "hsk_cek", bytes, "hsk and cek of a Hygon chip", "");
    }
    const first = bytes.find((b) => b > 0x20);
    if (first === 0x7b) return fromJson(name, bytes);
    if (isPem(bytes)) {
      const text = Buffer.from(bytes).toString("latin1");
      if (text.includes("BEGIN X509 CRL")) return fromCrl(name, bytes);
      if (text.includes("BEGIN CERTIFICATE")) return fromCertificates(name, bytes);
      return undefined;
    }
    if (first === 0x30) return looksLikeCrl(bytes) ? fromCrl(name, bytes) : fromCertificates(name, bytes);
    const table = parseCertTable(bytes);
    return table.size === 0 ? undefined : undated(name, "cert_table", bytes, "certificate table", "");
  } catch (error) {
    if (error instanceof ShelterError && error.kind !== "bug") return undefined;
    throw new Error(`cannot look at ${name}: ${describe(error)}`, { cause: error });
  }
}

function undated(
  name: string,
  role: CollateralRole,
  bytes: Uint8Array,
  what: string,
  key: string,
): CollateralPiece {
  return { name, role, bytes, what, key, notBefore: undefined, notAfter: undefined };
}

function fromJson(name: string, bytes: Uint8Array): CollateralPiece | undefined {
  const json = parseJson(new TextDecoder().decode(bytes), name);
  const root = json as JsonObject;
  const body = (root["tcbInfo"] ?? root["enclaveIdentity"]) as JsonObject | undefined;
  if (typeof root["kty"] === "string") return undated(name, "cpak", bytes, "platform key", "");
  if (typeof body !== "object" || body === null) return undefined;
  const date = (key: string): number | undefined => {
    const time = typeof body[key] === "string" ? Date.parse(body[key]) : Number.NaN;
    return Number.isNaN(time) ? undefined : time;
  };
  const info = root["tcbInfo"] !== undefined;
  const id = String(body["id"] ?? (info ? "SGX" : ""));
  const key = info ? `${id} ${String(body["fmspc"]).toLowerCase()}` : id;
  return {
    name,
    role: info ? "tcb_info" : "qe_identity",
    bytes,
    what: info ? `tcb info of ${String(body["fmspc"])} (${id})` : `qe identity (${id})`,
    key,
    notBefore: date("issueDate"),
    notAfter: date("nextUpdate"),
  };
}

/** A CRL's to-be-signed part starts with its version or algorithm, a certificate's with `[0]` or a serial number. */
function looksLikeCrl(bytes: Uint8Array): boolean {
  try {
    parseCrl(bytes);
    return true;
  } catch {
    return false;
  }
}

function commonName(certificate: Certificate, of: "subject" | "issuer" = "subject"): string {
  return certificate[of].attributes.find((a) => a.oid === "2.5.4.3")?.value ?? certificate[of].text;
}

function fromCrl(name: string, bytes: Uint8Array): CollateralPiece {
  const crl = parseCrl(bytes, name);
  const issuer = crl.issuer.attributes.find((a) => a.oid === "2.5.4.3")?.value ?? crl.issuer.text;
  const role =
    issuer === "Intel SGX Root CA" ? "root_crl" : issuer.startsWith("Intel SGX PCK") ? "pck_crl" : "crl";
  return {
    name,
    role,
    bytes,
    what: `crl of ${issuer}`,
    key: issuer,
    notBefore: crl.thisUpdate,
    notAfter: crl.nextUpdate,
  };
}

function fromCertificates(name: string, bytes: Uint8Array): CollateralPiece | undefined {
  const certificates = parseCertificates(bytes, name);
  const [leaf] = certificates;
  if (leaf === undefined) return undefined;
  const { role, what, key } = certificateRole(leaf);
  return {
    name,
    role,
    bytes,
    what,
    key,
    notBefore: Math.max(...certificates.map((c) => c.notBefore)),
    notAfter: Math.min(...certificates.map((c) => c.notAfter)),
  };
}

function certificateRole(leaf: Certificate): { role: CollateralRole; what: string; key: string } {
  const cn = commonName(leaf);
  if (leaf.extensions.has(AMD_PRODUCT)) {
    const hwId = leaf.extensions.get(AMD_HW_ID)?.value;
    return {
      role: "vek",
      what: hwId === undefined ? "vlek" : `vcek of chip ${toHex(hwId).slice(0, 32)}`,
      key: hwId === undefined ? "" : toHex(hwId),
    };
  }
  if (leaf.extensions.has(SGX_EXTENSION))
    return { role: "pck_chain", what: "pck certificate chain", key: cn };
  if (cn === "Intel SGX TCB Signing") return { role: "tcb_info_chain", what: "tcb signing chain", key: cn };
  if (cn.startsWith("Intel SGX PCK")) return { role: "pck_crl_chain", what: `chain of ${cn}`, key: cn };
  return { role: "ca", what: `certificate of ${cn}`, key: cn };
}
