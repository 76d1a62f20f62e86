import { fromBase64 } from "@shelter/base";
import { type Certificate, parseCertificate } from "./certificate.ts";
import { X509Error } from "./error.ts";

const BLOCK = /-----BEGIN ([A-Z0-9 ]+)-----\s([A-Za-z0-9+/=\s]*?)-----END \1-----/g;
const MAX_PEM_SIZE = 16 * 1024 * 1024; // CRLs come as PEM too
const MAX_BLOCKS = 64;

/** One block of a PEM file (RFC 7468). */
export interface PemBlock {
  readonly label: string;
  readonly der: Uint8Array;
}

/** Splits PEM text into its blocks. Text between blocks is allowed, a BEGIN without its END is not. */
export function parsePemBlocks(text: string, what = "PEM"): PemBlock[] {
  if (text.length > MAX_PEM_SIZE) throw new X509Error("PEM_MALFORMED", `${what}: ${text.length} characters`);
  const blocks: PemBlock[] = [];
  for (const match of text.matchAll(BLOCK)) {
    if (blocks.length >= MAX_BLOCKS)
      throw new X509Error("PEM_MALFORMED", `${what}: more than ${MAX_BLOCKS} blocks`);
    try {
      blocks.push({ label: match[1] ?? "", der: fromBase64((match[2] ?? "").replace(/\s+/g, "")) });
    } catch (cause) {
      throw new X509Error("PEM_MALFORMED", `${what}: block ${blocks.length + 1} is not base64`, { cause });
    }
  }
  if (text.split("-----BEGIN ").length - 1 !== blocks.length) {
    throw new X509Error("PEM_MALFORMED", `${what}: a block that does not end`);
  }
  return blocks;
}

/** The certificates of a PEM file, in order; other blocks are refused. */
export function parsePem(text: string, what = "certificates"): Certificate[] {
  return parsePemBlocks(text, what).map((block, i) => {
    if (block.label !== "CERTIFICATE") {
      throw new X509Error("PEM_MALFORMED", `${what}: expected CERTIFICATE, have ${block.label}`);
    }
    return parseCertificate(block.der, `${what} ${i + 1}`);
  });
}

/** Whether bytes start as PEM text does. */
export function isPem(bytes: Uint8Array): boolean {
  return Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, 4096))
    .toString("latin1")
    .includes("-----BEGIN ");
}

/** Certificates of a file in either form: PEM with one or more, or DER with exactly one. */
export function parseCertificates(bytes: Uint8Array, what = "certificates"): Certificate[] {
  return isPem(bytes)
    ? parsePem(Buffer.from(bytes).toString("latin1"), what)
    : [parseCertificate(bytes, what)];
}
