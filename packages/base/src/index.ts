export {
  ByteReader,
  BytesError,
  type BytesErrorCode,
  fromBase64,
  fromHex,
  sameBytes,
  toBase64,
  toHex,
} from "./bytes.ts";
export { type Digest, digestOf, finishDigest, hexOf, parseDigest } from "./digest.ts";
export { describe, type ErrorKind, EXIT_STATUS, ShelterError } from "./errors.ts";
export { canonicalJson, type Json, JsonError, type JsonObject, parseJson } from "./json.ts";
export { SecretBytes } from "./secret.ts";
export { replaceFile, stateDirectory } from "./state.ts";
