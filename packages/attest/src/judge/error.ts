import { type ErrorKind, ShelterError } from "@shelter/base";

/** Why nothing could be judged. */
export type JudgeErrorCode =
  | "EVIDENCE_UNKNOWN"
  | "EVIDENCE_INCOMPLETE"
  | "PLATFORM_UNSUPPORTED"
  | "EXPECTATIONS_MALFORMED";

const KINDS: Readonly<Record<JudgeErrorCode, ErrorKind>> = {
  EVIDENCE_UNKNOWN: "malformed",
  EVIDENCE_INCOMPLETE: "usage",
  PLATFORM_UNSUPPORTED: "usage",
  EXPECTATIONS_MALFORMED: "usage",
};

/** Files that hold no evidence this library knows, or not all of it. */
export class JudgeError extends ShelterError<JudgeErrorCode> {
  constructor(code: JudgeErrorCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(code, KINDS[code], message, options);
  }
}
