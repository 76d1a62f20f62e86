import { createHash, type Hash } from "node:crypto";
import { ShelterError } from "./errors.ts";

declare const digestBrand: unique symbol;

/** `sha256:` and 64 lower-case hex digits (OCI image-spec, "Digests"). */
export type Digest = string & { readonly [digestBrand]: true };

const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** Reads a digest from outside; anything but a lower-case sha256 digest is refused. */
export function parseDigest(text: unknown): Digest {
  if (typeof text !== "string" || !DIGEST.test(text)) {
    const shown = typeof text === "string" ? JSON.stringify(text.slice(0, 80)) : typeof text;
    throw new ShelterError("DIGEST_MALFORMED", "malformed", `expected sha256:<64 hex digits>, have ${shown}`);
  }
  return text as Digest;
}

/** SHA-256 of bytes or UTF-8 text. */
export function digestOf(data: Uint8Array | string): Digest {
  return `sha256:${createHash("sha256").update(data).digest("hex")}` as Digest;
}

/** The digest of everything a running hash has been fed; the hash is finished by this. */
export function finishDigest(hash: Hash): Digest {
  return `sha256:${hash.digest("hex")}` as Digest;
}

/** The 64 hex digits of a digest. */
export function hexOf(digest: Digest): string {
  return digest.slice("sha256:".length);
}
