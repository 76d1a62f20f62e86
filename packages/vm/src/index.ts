export type {
  BootImage,
  Instance,
  InstanceConfig,
  InstanceEnd,
  InstanceState,
  InstanceStatus,
  PortForward,
  ProcessMark,
  Timing,
} from "./config.ts";
export { VmError, type VmErrorCode } from "./errors.ts";
export {
  type Accelerator,
  type FirmwareFiles,
  type HostPart,
  type HostReport,
  PLATFORMS,
  type Platform,
  type PlatformChoice,
  type PlatformReport,
} from "./platform.ts";
