export { type RtmrReplay, replayRtmrs } from "./event-log.ts";
export { parseTdReport, type TdAttributes, type TdReport, tdAttributes } from "./td-report.ts";
export { type TdxExpectations, type TdxInput, verifyTdx } from "./verify.ts";
