export { type Assets, assetsDirectory, openAssets } from "./assets.ts";
export { type BuildOptions, type BuildResult, build } from "./build.ts";
export { commandLine, readMeasured } from "./cmdline.ts";
export { defaultConfig, isResourceUri, parseShelterYaml, type ShelterConfig } from "./config/shelter-yaml.ts";
export { formatSize, parseSize } from "./config/size.ts";
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
  type RootCheck,
  type Secret,
  type Shape,
  type User,
} from "./manifest.ts";
export { decodeManifest } from "./manifest-decode.ts";
export { corim } from "./measure/corim.ts";
export { type CsvLaunch, csvLaunchDigest, DHYANA_SIGNATURE } from "./measure/csv.ts";
export { measure, referenceValues } from "./measure/measure.ts";
export type {
  Launch,
  LaunchMeasurement,
  MachineShape,
  MeasuredPlatform,
  Measurement,
  MeasureRequest,
  PredictedEvent,
  Processor,
  ReferenceValue,
  ReferenceValues,
  TdxMeasurement,
  VtpmMeasurement,
} from "./measure/measurement.ts";
export { DEFAULT_FIRMWARE } from "./measure/ovmf.ts";
export { type OvmfImage, readOvmf, type SevSection } from "./measure/ovmf-sev.ts";
export { type RvpsMessage, rvpsMessage } from "./measure/rvps.ts";
export {
  type SnpLaunch,
  sevLaunchDigest,
  snpFirmwareDigest,
  snpLaunchDigest,
  snpLaunchDigests,
} from "./measure/snp.ts";
export { explainSnp, type SnpAlternatives, type SnpDifference } from "./measure/snp-explain.ts";
export { type KernelHashes, kernelHashes } from "./measure/snp-hashes.ts";
export {
  diffSnp,
  imageHashes,
  predictSnp,
  type SnpKnown,
  type SnpMachine,
  type SnpPrediction,
} from "./measure/snp-image.ts";
export { CPU_SIGNATURES, type Vmm } from "./measure/snp-vmsa.ts";
export {
  type AcpiFiles,
  explainTdx,
  mrTd,
  type PageOrder,
  type TdxBoot,
  type TdxDifference,
  type TdxEvent,
  type TdxRegisters,
  tdxEvents,
  tdxRegisters,
} from "./measure/tdx.ts";
export { readTdxFirmware, type TdvfSection, type TdxFirmware } from "./measure/tdx-firmware.ts";
export { predictTdx, type TdxMachine, type TdxPrediction } from "./measure/tdx-image.ts";
export { PROCESSORS, vtpmMachine } from "./measure/vtpm.ts";
export { identityPrefix, parseName, shortIdentity } from "./name.ts";
export type { BuildProgress, BuildStep, OnProgress } from "./progress.ts";
export { DISK_KEY_SIZE } from "./root/encrypt.ts";
export { diskKeyFile, newDiskKey } from "./root/key.ts";
export { TAR2SQFS_ARGS } from "./root/squashfs.ts";
export type { ImageFile, ImageRecord, SealedImage } from "./sealed.ts";
export { ImageStore, type Removal, verifyImage } from "./store/store.ts";
