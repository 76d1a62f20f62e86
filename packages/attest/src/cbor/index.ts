export {
  COSE_ALGORITHMS,
  type CoseAlgorithm,
  type CoseSign1,
  coseSigStructure,
  type EcKey,
  ecKey,
  parseCoseKey,
  parseCoseSign1,
  parseSec1Point,
  verifyCoseSign1,
} from "./cose.ts";
export {
  type CborKey,
  type CborMap,
  CborTag,
  type CborValue,
  decodeCbor,
  isMap,
  showCbor,
} from "./decode.ts";
export { CborError, type CborErrorCode } from "./error.ts";
export { type BytesForm, CborFields } from "./fields.ts";
