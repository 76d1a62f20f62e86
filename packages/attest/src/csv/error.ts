import { ShelterError } from "@shelter/base";

/** What is wrong with something Hygon CSV. */
export type CsvErrorCode = "CSV_REPORT_MALFORMED" | "CSV_CERTIFICATE_MALFORMED" | "CSV_EVIDENCE_MALFORMED";

/** Data that is not the report, certificate or evidence it claims to be. */
export class CsvError extends ShelterError<CsvErrorCode> {
  constructor(code: CsvErrorCode, message: string, options: { cause?: unknown } = {}) {
    super(code, "malformed", message, options);
  }
}
