import { createHash } from "node:crypto";

/** Profile of the platform token before the tokens had an Internet draft. */
export const PLATFORM_PROFILE_1 = "http://arm.com/CCA-SSD/1.0.0";
/** Profiles of 2023 (draft-ffm-rats-cca-token). */
export const PLATFORM_PROFILE_2023 = "tag:arm.com,2023:cca_platform#1.0.0";
export const REALM_PROFILE_2023 = "tag:arm.com,2023:realm#1.0.0";
/** Profiles of 2024 (draft-ffm-rats-cca-token-03): more claims, the same bindings. */
export const PLATFORM_PROFILE_2024 = "tag:arm.com,2024:cca_platform#2.0.0";
export const REALM_PROFILE_2024 = "tag:arm.com,2024:realm#2.0.0";

/** State of the platform's security lifecycle (RMM specification A7.2.3.2.7). */
export type CcaLifecycle =
  | "unknown"
  | "assembly-and-test"
  | "cca-platform-rot-provisioning"
  | "secured"
  | "non-cca-platform-debug"
  | "recoverable-cca-platform-debug"
  | "decommissioned"
  | "invalid";

const STATES: readonly CcaLifecycle[] = [
  "unknown",
  "assembly-and-test",
  "cca-platform-rot-provisioning",
  "secured",
  "non-cca-platform-debug",
  "recoverable-cca-platform-debug",
  "decommissioned",
];

/** The state a lifecycle claim stands for: its highest four bits; the next four must be zero. */
export function lifecycleState(value: number): CcaLifecycle {
  return (value & 0x0f00) === 0 ? (STATES[value >>> 12] ?? "invalid") : "invalid";
}

const HASHES: Readonly<Record<string, string>> = {
  "sha-256": "sha256",
  "sha-384": "sha384",
  "sha-512": "sha512",
};

/** Digest under a name of the IANA hash function registry; undefined where it is none a token should use. */
export function namedHash(name: string, bytes: Uint8Array): Uint8Array | undefined {
  const algorithm = Object.hasOwn(HASHES, name) ? HASHES[name] : undefined;
  return algorithm === undefined ? undefined : createHash(algorithm).update(bytes).digest();
}
