import type { Digest } from "@shelter/base";
import type { ImageConfig } from "./config.ts";
import type { Region } from "./region.ts";

/** Where an image came from. */
export type SourceKind = "docker-archive" | "oci" | "oci-archive" | "directory";

/** One layer as it lies on this disk. */
export interface Layer {
  /** Where its bytes are, packed or plain. */
  readonly region: Region;
  /** Digest of these bytes; undefined where the form has none (docker save's plain layers). */
  readonly blob: Digest | undefined;
  /** Digest of the unpacked tar. */
  readonly diffId: Digest;
  /** Names it in messages: `layer 2 of 5 (sha256:…)`. */
  readonly what: string;
}

/** An opened image: its configuration is parsed, its layers are known and still unread. */
export interface ImageSource {
  readonly kind: SourceKind;
  /** What was asked for, as given. */
  readonly spec: string;
  readonly config: ImageConfig;
  /** Digest of the configuration; null for a directory, which has none. */
  readonly configDigest: Digest | null;
  /** Diff ids, bottom first; empty for a directory. */
  readonly layers: readonly Digest[];
  /** What `flatten` reads. */
  readonly content: { readonly layers: readonly Layer[] } | { readonly directory: string };
  /** Releases what the source holds. */
  close(): Promise<void>;
}

/** Names layers in messages. */
export function layerName(index: number, count: number, digest: Digest): string {
  return `layer ${index + 1} of ${count} (${digest.slice(0, 19)}…)`;
}
