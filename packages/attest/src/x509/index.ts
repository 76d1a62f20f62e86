export {
  keyObject,
  type PublicKeyInfo,
  readPublicKey,
  type SignatureAlgorithm,
  verifySignature,
} from "./algorithm.ts";
export {
  type Certificate,
  EXTENSION,
  type Extension,
  KEY_USAGES,
  type KeyUsage,
  parseCertificate,
} from "./certificate.ts";
export { type ChainRequest, type ChainResult, verifyChain } from "./chain.ts";
export { type Crl, crlSignedBy, parseCrl } from "./crl.ts";
export { checkDer, contextTag, DerReader, type DerValue, decodeOid, TAG } from "./der.ts";
export { X509Error, type X509ErrorCode } from "./error.ts";
export { type Name, type NameAttribute, readName } from "./name.ts";
export { isPem, type PemBlock, parseCertificates, parsePem, parsePemBlocks } from "./pem.ts";
