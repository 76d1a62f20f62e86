export { DcapCollateral, type DcapFiles } from "./collateral.ts";
export {
  type EnclaveReport,
  parseEnclaveReport,
  type SgxAttributes,
  sgxAttributes,
} from "./enclave-report.ts";
export { DcapError, type DcapErrorCode } from "./error.ts";
export type { DcapExpectations, DcapInput } from "./judge.ts";
export { type Pck, readPck } from "./pck.ts";
export { parseQeIdentity, type QeIdentity } from "./qe-identity.ts";
export { parseQuote, type Quote, type QuoteBody, type QuoteHeader } from "./quote.ts";
export { renderQuote, renderSgx } from "./render.ts";
export { INTEL_SGX_ROOT_CA } from "./roots.ts";
export { parseTcbInfo, type TcbInfo, type TcbLevel } from "./tcb-info.ts";
export { concludeTcb, type TcbConclusion, type TcbStatus } from "./tcb-status.ts";
export { type SgxExpectations, type SgxInput, verifySgx } from "./verify.ts";
