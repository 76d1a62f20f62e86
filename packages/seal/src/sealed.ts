import type { Digest } from "@shelter/base";
import type { Manifest, Shape } from "./manifest.ts";

/** Name of a file of a sealed image. */
export type ImageFile = "kernel" | "initrd" | "root.squashfs" | "root.verity" | "manifest.json";

/** `image.json` of a sealed image (docs/formats.md, "The sealed image"). */
export type ImageRecord = {
  readonly version: 1;
  readonly identity: Digest;
  readonly shape: Shape;
  readonly cmdline: string;
  readonly created: null;
  readonly files: { readonly [F in ImageFile]?: { readonly digest: Digest; readonly size: number } };
  readonly source: { readonly kind: string; readonly config?: Digest; readonly layers?: readonly Digest[] };
  readonly guest: { readonly kernelVersion: string; readonly agent: Digest };
};

/** A sealed image in the store. */
export type SealedImage = {
  readonly identity: Digest;
  /** The directory with the image's files. */
  readonly directory: string;
  readonly record: ImageRecord;
  readonly manifest: Manifest;
  /** `NAME:TAG`, sorted. */
  readonly names: readonly string[];
};
