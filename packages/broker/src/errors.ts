import { ShelterError } from "@shelter/base";

/** Everything the broker refuses or fails with, by name. */
export type BrokerErrorCode =
  | "ADMIN_DENIED"
  | "ANCHOR_MALFORMED"
  | "ANCHOR_UNKNOWN"
  | "AUDIT_UNREADABLE"
  | "BROKER_UNREACHABLE"
  | "BROKER_ANSWER"
  | "BROKER_FAILED"
  | "DATABASE_UNUSABLE"
  | "LISTEN_REFUSED"
  | "LISTEN_FAILED"
  | "MASTER_KEY_EXPOSED"
  | "MASTER_KEY_MALFORMED"
  | "MASTER_KEY_MISSING"
  | "MASTER_KEY_WRONG"
  | "PATTERN_MALFORMED"
  | "POLICY_UNKNOWN"
  | "REFERENCE_MALFORMED"
  | "REFERENCE_TOO_WEAK"
  | "REFERENCE_UNKNOWN"
  | "REQUEST_MALFORMED"
  | "RESOURCE_CORRUPT"
  | "RESOURCE_PATH"
  | "RESOURCE_TOO_LARGE"
  | "RESOURCE_UNKNOWN"
  | "ROUTE_UNKNOWN"
  | "SESSION_UNKNOWN"
  | "TLS_MATERIAL"
  | "TOO_MANY_REQUESTS"
  | "WORKLOAD_MALFORMED";

/** An error of the broker or of its client. */
export class BrokerError extends ShelterError<BrokerErrorCode> {}
