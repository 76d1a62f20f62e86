import { type Json, type JsonObject, parseJson } from "@shelter/base";
import { type CertTableKind, encodeCertTable } from "./cert-table.ts";
import { SnpError } from "./error.ts";
import { SNP_REPORT_SIZE } from "./report.ts";

/** The bytes a processor and a host gave out, again. */
export interface SnpEvidence {
  readonly report: Uint8Array;
  readonly certTable?: Uint8Array;
}

const MAX_JSON = 4 << 20; // lists of numbers quadruple the bytes; a chain has a few kilobytes
const MAX_CERTIFICATES = 32;
const MAX_CERTIFICATE = 64 << 10;

function refuse(what: string, why: string): never {
  throw new SnpError("SNP_REPORT_MALFORMED", `snp evidence: ${what}: ${why}`);
}

function objectAt(value: Json | undefined, what: string): JsonObject {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    return refuse(what, value === undefined ? "missing" : "not an object");
  }
  return value as JsonObject;
}

function bytesOf(value: Json | undefined, what: string, size: number | undefined): Uint8Array {
  if (!Array.isArray(value)) return refuse(what, value === undefined ? "missing" : "not a list");
  const list = value as readonly Json[];
  if (size === undefined ? list.length > MAX_CERTIFICATE : list.length !== size) {
    return refuse(what, `${list.length} bytes${size === undefined ? "" : `, expected ${size}`}`);
  }
  return Uint8Array.from(list, (b, i) =>
    typeof b === "number" && Number.isInteger(b) && b >= 0 && b < 256
      ? b
      : refuse(`${what}[${i}]`, "not a byte"),
  );
}

/** Writes the members of the report's JSON into the places they have in a report (SEV-SNP ABI specification, table 23). */
class ReportWriter {
  readonly bytes: Buffer = Buffer.alloc(SNP_REPORT_SIZE);
  readonly #json: JsonObject;
  readonly #left: Set<string>;

  constructor(json: JsonObject) {
    this.#json = json;
    this.#left = new Set(Object.keys(json));
  }

  #take(key: string): Json | undefined {
    this.#left.delete(key);
    return this.#json[key];
  }

  integer(offset: number, size: 1 | 4 | 8, key: string): void {
    this.#number(offset, size, this.#take(key), key);
  }

  /** Present exactly from a version on; before it null, absent, or what a reader makes of it, zero. */
  since(version: number, offset: number, size: 1 | 8, key: string): void {
    const value = this.#take(key);
    if (Number(this.#json["version"]) >= version) this.#number(offset, size, value, key);
    else if (value !== undefined && value !== null && value !== 0) {
      refuse(key, `a report has it from version ${version} on`);
    }
  }

  #number(offset: number, size: 1 | 4 | 8, value: Json | undefined, what: string): void {
    if (typeof value !== "number" || !Number.isInteger(value) || value < 0 || value >= 2 ** (size * 8)) {
      refuse(what, value === undefined ? "missing" : `not a number of ${size * 8} bits`);
    }
    if (!Number.isSafeInteger(value)) refuse(what, "beyond 2^53, where JSON numbers are not exact");
    if (size === 8) this.bytes.writeBigUInt64LE(BigInt(value), offset);
    else this.bytes.writeUIntLE(value, offset, size);
  }

  list(offset: number, size: number, key: string): void {
    this.bytes.set(bytesOf(this.#take(key), key, size), offset);
  }

  /** Five parts of a TCB version: with `fmc` they lie as Turin has them, without as before. */
  tcb(offset: number, key: string): void {
    const tcb = objectAt(this.#take(key), key);
    const old = tcb["fmc"] === undefined || tcb["fmc"] === null;
    const places = old
      ? { bootloader: 0, tee: 1, snp: 6, microcode: 7 }
      : { fmc: 0, bootloader: 1, tee: 2, snp: 3, microcode: 7 };
    for (const [part, at] of Object.entries(places)) {
      this.#number(offset + at, 1, tcb[part], `${key}.${part}`);
    }
    known(tcb, ["fmc", "bootloader", "tee", "snp", "microcode"], key);
  }

  firmware(offset: number, key: string): void {
    const version = objectAt(this.#take(key), key);
    for (const [i, part] of ["build", "minor", "major"].entries()) {
      this.#number(offset + i, 1, version[part], `${key}.${part}`);
    }
    known(version, ["build", "minor", "major"], key);
  }

  signature(offset: number, key: string): void {
    const signature = objectAt(this.#take(key), key);
    this.bytes.set(bytesOf(signature["r"], `${key}.r`, 72), offset);
    this.bytes.set(bytesOf(signature["s"], `${key}.s`, 72), offset + 72);
    known(signature, ["r", "s"], key);
  }

  end(): Uint8Array {
    for (const key of this.#left) refuse(key, "no member of a report this knows the place of");
    return new Uint8Array(this.bytes);
  }
}

/** A member whose place is not known would be left out of what was signed. */
function known(object: JsonObject, members: readonly string[], what: string): void {
  for (const key of Object.keys(object)) if (!members.includes(key)) refuse(`${what}.${key}`, "not known");
}

/**
 * Reads Trustee's `snp` evidence, `{"attestation_report": …, "cert_chain": null | […]}`, with the report as the crate
 * `sev` (version 6 and 7) serialises it. That form leaves reserved bytes out; they are zero again here, so a report
 * with others in them does not verify.
 */
export function parseSnpEvidence(bytes: Uint8Array): SnpEvidence {
  if (bytes.byteLength > MAX_JSON) refuse("document", `${bytes.byteLength} bytes`);
  const root = objectAt(parseJson(new TextDecoder().decode(bytes), "snp evidence"), "document");
  const report = reportBytes(objectAt(root["attestation_report"], "attestation_report"));
  const chain = root["cert_chain"];
  if (chain === undefined || chain === null) return { report };
  return { report, certTable: encodeCertTable(certificates(chain)) };
}

function reportBytes(json: JsonObject): Uint8Array {
  const version = json["version"];
  if (typeof version !== "number" || ![2, 3, 4, 5].includes(version)) {
    refuse("version", `${JSON.stringify(version)} is none of 2 to 5`);
  }
  const w = new ReportWriter(json);
  w.integer(0x00, 4, "version");
  w.integer(0x04, 4, "guest_svn");
  w.integer(0x08, 8, "policy");
  w.list(0x10, 16, "family_id");
  w.list(0x20, 16, "image_id");
  w.integer(0x30, 4, "vmpl");
  w.integer(0x34, 4, "sig_algo");
  w.tcb(0x38, "current_tcb");
  w.integer(0x40, 8, "plat_info");
  w.integer(0x48, 4, "key_info");
  w.list(0x50, 64, "report_data");
  w.list(0x90, 48, "measurement");
  w.list(0xc0, 32, "host_data");
  w.list(0xe0, 48, "id_key_digest");
  w.list(0x110, 48, "author_key_digest");
  w.list(0x140, 32, "report_id");
  w.list(0x160, 32, "report_id_ma");
  w.tcb(0x180, "reported_tcb");
  w.since(3, 0x188, 1, "cpuid_fam_id");
  w.since(3, 0x189, 1, "cpuid_mod_id");
  w.since(3, 0x18a, 1, "cpuid_step");
  w.list(0x1a0, 64, "chip_id");
  w.tcb(0x1e0, "committed_tcb");
  w.firmware(0x1e8, "current");
  w.firmware(0x1ec, "committed");
  w.tcb(0x1f0, "launch_tcb");
  w.since(5, 0x1f8, 8, "launch_mit_vector");
  w.since(5, 0x200, 8, "current_mit_vector");
  w.signature(0x2a0, "signature");
  return w.end();
}

const CERTIFICATE_KINDS: Readonly<Record<string, CertTableKind>> = {
  ARK: "ark",
  ASK: "ask",
  VCEK: "vcek",
  VLEK: "vlek",
  CRL: "crl",
};

function certificates(chain: Json): ReadonlyMap<CertTableKind, Uint8Array> {
  if (!Array.isArray(chain)) refuse("cert_chain", "not a list");
  const list = chain as readonly Json[];
  if (list.length > MAX_CERTIFICATES) refuse("cert_chain", `${list.length} entries`);
  const found = new Map<CertTableKind, Uint8Array>();
  for (const [i, entry] of list.entries()) {
    const what = `cert_chain[${i}]`;
    const { cert_type: type, data } = objectAt(entry, what);
    // Besides these the crate has `Empty` and `{"OTHER": uuid}`: nothing a verifier reads.
    const kind = typeof type === "string" ? CERTIFICATE_KINDS[type] : undefined;
    if (kind === undefined) continue;
    if (found.has(kind)) refuse(what, `a second ${String(type)}`);
    found.set(kind, bytesOf(data, `${what}.data`, undefined));
  }
  return found;
}
