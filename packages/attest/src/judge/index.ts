export { JudgeError, type JudgeErrorCode } from "./error.ts";
export {
  type EvidenceRequest,
  judgeEvidence,
  type NamedFile,
  type SortedEvidence,
  sortEvidence,
} from "./evidence.ts";
export { parseExpectations } from "./expect-json.ts";
export type { Expectations } from "./expectations.ts";
export { PLATFORMS, type Platform, type RoleFiles, type RoleRequest } from "./files.ts";
export { renderEvidence } from "./render.ts";
export { judgeRoles } from "./roles.ts";
