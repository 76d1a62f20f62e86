export { type NitroDocument, parseNitroDocument } from "./document.ts";
export { NitroError, type NitroErrorCode } from "./error.ts";
export type { NitroExpectations } from "./expect.ts";
export { renderNitro } from "./render.ts";
export { AWS_NITRO_ROOT } from "./root.ts";
export { type NitroInput, verifyNitro } from "./verify.ts";
