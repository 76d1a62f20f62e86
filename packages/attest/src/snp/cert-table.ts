import { ByteReader } from "@shelter/base";
import { SnpError } from "./error.ts";

/** What a certificate table entry is (GHCB specification, SNP Extended Guest Request). */
export type CertTableKind = "ark" | "ask" | "vcek" | "vlek" | "crl";

const KINDS: ReadonlyMap<string, CertTableKind> = new Map([
  ["c0b406a4a803495297433fb6014cd0ae", "ark"],
  ["4ab7b379bbac4fe4a02f05aef327c782", "ask"],
  ["63da758de6644564adc5f4b93be8accd", "vcek"],
  ["a8074bc2a25a483eaae639c045a0b8a1", "vlek"],
  ["92f81bc358114d3d97ffd19f88dc67ea", "crl"],
]);

const ENTRY_SIZE = 24;
const MAX_ENTRIES = 32; // the table names five kinds; operators add a few of their own
const MAX_TABLE_BYTES = 1 << 20;

function bad(message: string): SnpError {
  return new SnpError("SNP_CERT_TABLE_MALFORMED", message);
}

/**
 * Reads a certificate table: 24-byte entries (GUID, offset, length), an all-zero entry, then the
 * blobs. Entries must lie inside, must not overlap the entries, and no kind may come twice. Unknown
 * GUIDs are left out.
 */
export function parseCertTable(bytes: Uint8Array): ReadonlyMap<CertTableKind, Uint8Array> {
  if (bytes.byteLength > MAX_TABLE_BYTES) throw bad(`certificate table: ${bytes.byteLength} bytes`);
  const r = new ByteReader(bytes, "certificate table");
  const entries: { guid: string; offset: number; length: number }[] = [];
  for (;;) {
    if (r.remaining < ENTRY_SIZE) throw bad("certificate table: ends without an all-zero entry");
    const guid = Buffer.from(r.take(16)).toString("hex");
    const offset = r.u32le();
    const length = r.u32le();
    if (/^0+$/.test(guid)) {
      if (offset !== 0 || length !== 0) throw bad("certificate table: last entry is not all zero");
      break;
    }
    if (entries.length === MAX_ENTRIES) throw bad(`certificate table: more than ${MAX_ENTRIES} entries`);
    entries.push({ guid, offset, length });
  }
  const blobs = new Map<CertTableKind, Uint8Array>();
  for (const { guid, offset, length } of entries) {
    if (offset < r.offset || offset + length > bytes.byteLength) {
      throw bad(`certificate table: entry ${guid} at ${offset}, ${length} bytes, is not inside the table`);
    }
    const kind = KINDS.get(guid);
    if (kind === undefined) continue;
    if (blobs.has(kind)) throw bad(`certificate table: two entries for ${kind}`);
    blobs.set(kind, bytes.subarray(offset, offset + length));
  }
  return blobs;
}

/** Writes a certificate table of these blobs: what `parseCertTable` reads. */
export function encodeCertTable(blobs: ReadonlyMap<CertTableKind, Uint8Array>): Uint8Array {
  const entries = Buffer.alloc(ENTRY_SIZE * (blobs.size + 1));
  let offset = entries.length;
  let at = 0;
  for (const [guid, kind] of KINDS) {
    const blob = blobs.get(kind);
    if (blob === undefined) continue;
    entries.write(guid, at, "hex");
    entries.writeUInt32LE(offset, at + 16);
    entries.writeUInt32LE(blob.byteLength, at + 20);
    at += ENTRY_SIZE;
    offset += blob.byteLength;
  }
  const ordered = [...KINDS.values()].flatMap((kind) => blobs.get(kind) ?? []);
  return new Uint8Array(Buffer.concat([entries, ...ordered]));
}
