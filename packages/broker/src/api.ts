import type { Check } from "@shelter/attest";
import type { Json, JsonObject } from "@shelter/base";

/** A stored secret as administrators see it: never its value. */
export interface SecretInfo {
  /** `repo/type/tag`. */
  readonly path: string;
  readonly uri: string;
  readonly version: number;
  readonly size: number;
  readonly created: string;
  readonly updated: string;
}

/** What one image measures on one platform and shape. */
export interface ReferenceValue {
  readonly platform: string;
  readonly shape: JsonObject | null;
  /** PCR number to hex SHA-256 value. */
  readonly pcrs: Readonly<Record<string, string>>;
  /** What is measured into them; explains a difference and decides nothing. */
  readonly events?: readonly { readonly pcr: number; readonly digest: string; readonly what: string }[];
}

/** The document `shelter measure --reference` writes (docs/formats.md). */
export interface ReferenceDocument {
  readonly version: 1;
  readonly workload: string;
  readonly image: string | null;
  readonly values: readonly ReferenceValue[];
}

/** One stored reference value. */
export interface ReferenceInfo extends ReferenceValue {
  readonly id: number;
  readonly workload: string;
  readonly image: string | null;
  readonly added: string;
}

/** Which workload may have which resources. */
export interface PolicyRule {
  readonly id: number;
  readonly workload: string;
  /** `kbs:///repo/type/tag`, where `*` stands for any characters of one part. */
  readonly pattern: string;
  readonly added: string;
}

/** A certificate that endorsement chains may end in. */
export interface TrustAnchorInfo {
  /** SHA-256 of the DER certificate, hex. */
  readonly id: string;
  readonly platform: string;
  readonly subject: string;
  readonly notBefore: string;
  readonly notAfter: string;
  readonly added: string;
}

/** How far a session came. */
export type SessionState = "open" | "judging" | "attested" | "refused" | "revoked" | "expired";

/** One attestation session in a list. */
export interface SessionSummary {
  readonly id: string;
  readonly tee: string;
  readonly state: SessionState;
  readonly created: string;
  readonly expires: string;
  readonly address: string;
  readonly workloads: readonly string[];
  /** Why it was refused, as the client was told. */
  readonly reason: string | null;
}

/** A reference value close to what was claimed, and where it differs. */
export interface Nearest {
  readonly workload: string;
  readonly reference: number;
  readonly differs: readonly {
    readonly pcr: number;
    readonly what: string;
    readonly claimed: string;
    readonly expected: string;
  }[];
}

/** Something a session asked for, and what came of it. */
export interface ReleaseInfo {
  readonly time: string;
  readonly path: string;
  readonly outcome: "released" | "refused";
  readonly version: number | null;
  readonly reason: string | null;
}

/** Everything known about one session: evidence, each check, the decision, and what was released to which key. */
export interface SessionExplanation extends SessionSummary {
  readonly outcome: string | null;
  readonly checks: readonly Check[];
  readonly claims: Json;
  readonly measurements: Readonly<Record<string, string>>;
  readonly nearest: Nearest | null;
  /** RFC 7638 thumbprint of the key everything is encrypted to. */
  readonly keyThumbprint: string | null;
  readonly releases: readonly ReleaseInfo[];
}

/** One entry of the audit log (docs/broker.md). */
export interface AuditEntry {
  readonly seq: number;
  readonly time: string;
  readonly actor: string;
  readonly action: string;
  readonly subject: string;
  readonly outcome: string;
  readonly details: Json;
  readonly previous: string;
  readonly hash: string;
}

/** A statement signed by the broker that the log had this entry at this place. */
export interface AuditHead {
  readonly seq: number;
  readonly hash: string;
  readonly time: string;
  /** Compact JWS (ES256) over `{broker, hash, seq, time}`. */
  readonly signature: string;
}

/** What checking the audit log found. */
export interface AuditReport {
  readonly ok: boolean;
  readonly broker: string;
  readonly entries: number;
  /** Last entry covered by a signed head; what is behind it can be cut off unseen. */
  readonly signedUpTo: number;
  readonly head: { readonly seq: number; readonly hash: string } | null;
  readonly firstBroken: { readonly seq: number; readonly reason: string } | null;
}

/** Who an admin token belongs to, and what the broker is. */
export interface WhoAmI {
  readonly admin: string;
  readonly broker: string;
  readonly version: string;
  readonly protocol: string;
  /** JWK of the key that signs tokens and audit heads. */
  readonly key: JsonObject;
  /** RFC 7638 thumbprint of that key. */
  readonly keyThumbprint: string;
}
