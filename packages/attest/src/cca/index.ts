export { CcaError, type CcaErrorCode } from "./error.ts";
export type { CcaExpectations, CcaReferenceComponent } from "./expect.ts";
export { type CcaPlatformKey, parseCcaPlatformKeys } from "./key.ts";
export { type CcaLifecycle, lifecycleState } from "./profile.ts";
export { renderCca } from "./render.ts";
export {
  type CcaPlatform,
  type CcaRealm,
  type CcaSwComponent,
  type CcaToken,
  parseCcaToken,
} from "./token.ts";
export { type CcaInput, verifyCca } from "./verify.ts";
