export { SealError, type SealErrorCode } from "./errors.ts";
export {
  grantsArgs,
  grantsArgv,
  grantsEnv,
  grantsExec,
  grantsMount,
  type Refusal,
  type RunRequest,
  refuseExec,
  refuseRun,
} from "./grants.ts";
export {
  type ArgvGrant,
  encodeManifest,
  MAX_MANIFEST_SIZE,
  type Manifest,
  type MountGrant,
  type Root,
  type Secret,
  type Shape,
  type User,
} from "./manifest.ts";
export type {
  MachineShape,
  MeasuredPlatform,
  Measurement,
  MeasureRequest,
  PredictedEvent,
  ReferenceValues,
} from "./measure/measurement.ts";
export { identityPrefix, parseName, shortIdentity } from "./name.ts";
export type { BuildProgress, BuildStep, OnProgress } from "./progress.ts";
export type { ImageFile, ImageRecord, SealedImage } from "./sealed.ts";
