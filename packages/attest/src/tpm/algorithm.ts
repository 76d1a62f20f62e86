import { createHash, getHashes } from "node:crypto";

/** A hash algorithm of a TPM (TCG Algorithm Registry), named as node:crypto names it. */
export type TpmHash = "sha1" | "sha256" | "sha384" | "sha512" | "sm3" | "sha3-256" | "sha3-384" | "sha3-512";

const IDS: readonly (readonly [number, TpmHash, number])[] = [
  [0x0004, "sha1", 20],
  [0x000b, "sha256", 32],
  [0x000c, "sha384", 48],
  [0x000d, "sha512", 64],
  [0x0012, "sm3", 32],
  [0x0027, "sha3-256", 32],
  [0x0028, "sha3-384", 48],
  [0x0029, "sha3-512", 64],
];

/** Identifiers of the other algorithms (TCG Algorithm Registry, table 3). */
export const ALG = {
  rsa: 0x0001,
  aes: 0x0006,
  keyedHash: 0x0008,
  null: 0x0010,
  rsassa: 0x0014,
  rsaes: 0x0015,
  rsapss: 0x0016,
  oaep: 0x0017,
  ecdsa: 0x0018,
  ecdaa: 0x001a,
  ecc: 0x0023,
  cfb: 0x0043,
} as const;

/** The hash with this TPM_ALG_ID. */
export function hashById(id: number): TpmHash | undefined {
  return IDS.find((entry) => entry[0] === id)?.[1];
}

/** The TPM_ALG_ID of a hash. */
export function hashId(hash: TpmHash): number {
  return IDS.find((entry) => entry[1] === hash)?.[0] ?? 0;
}

/** Bytes of a digest. */
export function hashSize(hash: TpmHash): number {
  return IDS.find((entry) => entry[1] === hash)?.[2] ?? 0;
}

const available = new Set(getHashes().map((name) => name.toLowerCase()));

/** Whether this Node can compute the hash. */
export function hashAvailable(hash: TpmHash): boolean {
  return available.has(hash) || available.has(`rsa-${hash}`);
}

/** The digest of one or several pieces. */
export function digest(hash: TpmHash, ...pieces: Uint8Array[]): Uint8Array {
  const h = createHash(hash);
  for (const piece of pieces) h.update(piece);
  return h.digest();
}
