export { type Activation, startActivation } from "./activation.ts";
export { hashSize, type TpmHash } from "./algorithm.ts";
export { type PcrBanks, type PcrSelection, parseTpmQuote, type TpmQuote } from "./attest.ts";
export { type Credential, type EndorsementKey, endorsementKey, makeCredential } from "./credential.ts";
export {
  activationProof,
  checkAttestationKey,
  EK_CERTIFICATE_USAGE,
  type EndorsementRequest,
  type TpmIdentity,
  tpmIdentity,
  verifyEndorsement,
} from "./endorsement.ts";
export { TpmError, type TpmErrorCode } from "./error.ts";
export {
  parsePcrBanks,
  parsePcrList,
  parseTpmEvidence,
  readPublicKeyFile,
  type TpmEvidence,
} from "./evidence.ts";
export {
  type ObjectAttribute,
  parseTpm2bPublic,
  parseTpmPublic,
  publicKeyOf,
  type TpmPublic,
} from "./public.ts";
export { type QuoteRequest, verifyTpmQuote } from "./quote.ts";
export { checkReferences, type ExpectedEvent, type PcrReference, pcrMeaning } from "./reference.ts";
export { renderTpmPublic, renderTpmQuote, renderTpmSignature } from "./render.ts";
export { parseTpmSignature, type TpmSignature, verifyTpmSignature } from "./signature.ts";
export {
  type AttestationKeyTrust,
  type TpmExpectations,
  type TpmRequest,
  verifyTpmEvidence,
} from "./verify.ts";
