import { canonicalJson, type Digest } from "@shelter/base";
import { SealError } from "./errors.ts";

/** One argument list allowed: a pattern per argument, a last `**` for any number of further ones. */
export type ArgvGrant = readonly string[];

/** A host directory the guest lets be mounted at `target`; `readOnly` false grants both ways. */
export type MountGrant = { readonly target: string; readonly readOnly: boolean };

/** A secret the guest fetches before the process starts; exactly one of `file` and `env`. */
export type Secret = {
  readonly uri: string;
  readonly file?: string;
  readonly env?: string;
  readonly mode?: number;
  readonly uid?: number;
  readonly gid?: number;
};

/** Who the process runs as, by number: the guest resolves no names. */
export type User = { readonly uid: number; readonly gid: number; readonly groups: readonly number[] };

/** Where the root lives: on a verity disk, or in the initrd. */
export type Shape = "disk" | "initrd";

/** `whole`: an altered byte anywhere is found before anything is proved; `lazy`: when it is read. */
export type RootCheck = "whole" | "lazy";

/** The root file system as the guest must find it. */
export type Root = {
  readonly shape: Shape;
  readonly squashfs: { readonly size: number; readonly digest: Digest };
  readonly verity?: {
    readonly rootHash: string;
    readonly salt: string;
    readonly dataBlocks: number;
    readonly hashSize: number;
  };
  /** Shape `disk`: whether the guest reads all of it through verity before it attests. */
  readonly check?: RootCheck;
  readonly encryption?: {
    readonly key: string;
    readonly cipher: "aes-xts-plain64";
    readonly sectorSize: 4096;
  };
};

/** What the guest may do (docs/formats.md, "The manifest"). */
export type Manifest = {
  readonly version: 1;
  readonly process: {
    readonly entrypoint: readonly string[];
    readonly cmd: readonly string[];
    readonly env: readonly string[];
    readonly cwd: string;
    readonly user: User;
  };
  readonly allow: {
    readonly args: readonly ArgvGrant[];
    readonly env: readonly string[];
    readonly exec: readonly ArgvGrant[];
    readonly stdin: boolean;
    readonly tty: boolean;
    readonly mounts: readonly MountGrant[];
  };
  readonly secrets: readonly Secret[];
  readonly ports: readonly number[];
  readonly network: { readonly outbound: boolean };
  readonly resources: { readonly memory: number; readonly cpus: number; readonly writable: number };
  readonly capabilities: readonly string[];
  readonly root: Root;
};

/** A manifest past this is refused unread by the guest (docs/formats.md). */
export const MAX_MANIFEST_SIZE: number = 256 * 1024;

/** The canonical bytes of a manifest: their digest is on the measured command line. */
export function encodeManifest(manifest: Manifest): Uint8Array {
  const bytes = Buffer.from(canonicalJson(manifest), "utf8");
  if (bytes.byteLength > MAX_MANIFEST_SIZE) {
    throw new SealError(
      "MANIFEST_MALFORMED",
      "usage",
      `the manifest has ${bytes.byteLength} bytes, more than ${MAX_MANIFEST_SIZE}`,
      { hint: "shorten the environment, the arguments or the grants" },
    );
  }
  return bytes;
}
