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
export { BrokerClient, type BrokerClientOptions } from "./client.ts";
export { BrokerError, type BrokerErrorCode } from "./errors.ts";
export { auditVerify, type AuditSource, verifyAudit } from "./state/audit-verify.ts";
