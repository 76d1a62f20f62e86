export {
  CA_CERTIFICATE_SIZE,
  CHIP_CERTIFICATE_SIZE,
  type CsvCertificate,
  type CsvSignature,
  parseCaCertificate,
  parseChipCertificate,
  parseHskCek,
} from "./certificate.ts";
export { CsvError, type CsvErrorCode } from "./error.ts";
export { type CsvEvidence, parseCsvEvidence } from "./evidence.ts";
export type { CsvExpectations } from "./expect.ts";
export { renderCsv, renderCsvCertificate } from "./render.ts";
export {
  type CsvPolicy,
  type CsvReport,
  type CsvSigner,
  type CsvWrapper,
  parseCsvPolicy,
  parseCsvReport,
} from "./report.ts";
export { HYGON_HRK } from "./root.ts";
export { type CsvInput, verifyCsv, verifyHrk } from "./verify.ts";
