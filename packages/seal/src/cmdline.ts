import { type Digest, hexOf, parseDigest } from "@shelter/base";

const FIXED = "quiet panic=-1 loglevel=1 console=null cryptomgr.notests";

/** The measured command line (docs/formats.md): nothing but this is ever on it. */
export function commandLine(manifest: Digest, rootHash: string | undefined): string {
  const root = rootHash === undefined ? "" : ` shelter.root=${rootHash}`;
  return `${FIXED} shelter.manifest=${hexOf(manifest)}${root}`;
}

/** The digests on a measured command line; undefined when it is not one. */
export function readMeasured(
  cmdline: string,
): { manifest: Digest; rootHash: string | undefined } | undefined {
  const match = /^(.*) shelter\.manifest=([0-9a-f]{64})(?: shelter\.root=([0-9a-f]{64}))?$/.exec(cmdline);
  if (match === null || match[1] !== FIXED) return undefined;
  return { manifest: parseDigest(`sha256:${match[2]}`), rootHash: match[3] };
}
