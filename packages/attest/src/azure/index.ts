export { AzureError, type AzureErrorCode } from "./error.ts";
export {
  type AzureEvidence,
  type AzureFiles,
  azureEvidence,
  parseAzureEvidence,
  readQuoteSignature,
} from "./evidence.ts";
export { type HclReport, parseHclReport } from "./hcl.ts";
export { type AzureInput, verifyAzure } from "./verify.ts";
