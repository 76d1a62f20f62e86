export { JudgeError, type JudgeErrorCode } from "./error.ts";
export type { Expectations } from "./expectations.ts";
export { PLATFORMS, type Platform, type RoleFiles, type RoleRequest } from "./files.ts";
export { judgeRoles } from "./roles.ts";
