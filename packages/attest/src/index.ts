export { type Check, CheckList, type Outcome, type Verdict } from "./verdict.ts";
