export { type Field, field, fieldLines, group } from "./describe.ts";
export { type Check, CheckList, type Outcome, type Verdict } from "./verdict.ts";
export * from "./x509/index.ts";
export * from "./snp/index.ts";
