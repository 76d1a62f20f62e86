export { CryptoError, type CryptoErrorCode } from "./error.ts";
export { type CurveParameters, SM2P256V1 } from "./sm2/domain.ts";
export { DEFAULT_IDENTITY, type Sm2Hash } from "./sm2/identity.ts";
export { Sm2, type Sm2Form, type Sm2SignatureOptions, sm2 } from "./sm2/sm2.ts";
export { hmacSm3, SM3_LENGTH, sm3 } from "./sm3.ts";
export { SM4_BLOCK, type Sm4Mode, sm4Decrypt, sm4Encrypt } from "./sm4/block.ts";
export { sm4CcmOpen, sm4CcmSeal } from "./sm4/ccm.ts";
export { type Sealed, sm4GcmOpen, sm4GcmSeal } from "./sm4/gcm.ts";
