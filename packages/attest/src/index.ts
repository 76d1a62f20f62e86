export { type Field, field, fieldLines, group } from "./describe.ts";
export * from "./eventlog/index.ts";
export * from "./sgx/index.ts";
export * from "./snp/index.ts";
export * from "./tdx/index.ts";
export * from "./tpm/index.ts";
export { type Check, CheckList, type Outcome, type Verdict } from "./verdict.ts";
export * from "./x509/index.ts";
export * from "./csv/index.ts";
