export type {
  AuditEntry,
  AuditHead,
  AuditReport,
  Nearest,
  PolicyRule,
  ReferenceDocument,
  ReferenceInfo,
  ReferenceValue,
  ReleaseInfo,
  SecretInfo,
  SessionExplanation,
  SessionState,
  SessionSummary,
  TrustAnchorInfo,
  WhoAmI,
} from "./api.ts";
export { Broker, type BrokerOptions } from "./broker.ts";
export { BrokerClient, type BrokerClientOptions } from "./client.ts";
export { BrokerError, type BrokerErrorCode } from "./errors.ts";
export { createApp, HTTP_LIMITS, type HttpLimits, type HttpOptions, type LogLine } from "./http/app.ts";
export type { Appraisal, Challenge, EvidenceInput, PlatformVerifier } from "./judge/platform.ts";
export { tpmPlatform } from "./judge/tpm.ts";
export { type AuditSource, auditVerify, verifyAudit } from "./state/audit-verify.ts";
