export { choosePlatform, refuseUnavailable } from "./choice.ts";
export { connectInstance, InstanceClient } from "./client.ts";
export { type CommandHost, type MachineCommand, type MachinePaths, qemuCommand } from "./command.ts";
export type {
  BootImage,
  Instance,
  InstanceConfig,
  InstanceEnd,
  InstanceState,
  InstanceStats,
  InstanceStatus,
  ProcessMark,
  Timing,
} from "./config.ts";
export { SUPERVISOR_FLAGS, startDetached } from "./detached.ts";
export { VmError, type VmErrorCode } from "./errors.ts";
export { findProgram, type ProbeOptions, probeHost } from "./host.ts";
export { type LogEntry, type LogOptions, readLogs } from "./log.ts";
export { MACHINE, MEMORY_UNIT, MIN_MEMORY } from "./machine.ts";
export { generateName, INSTANCE_NAME } from "./name.ts";
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
export { runtimeDirectory } from "./runtime.ts";
export {
  createInstance,
  eraseInstance,
  findInstance,
  isAlive,
  listInstances,
  refreshInstance,
  removeInstance,
} from "./store.ts";
export { type RunningInstance, type RunOptions, runInstance } from "./supervisor.ts";
export { TpmFactory } from "./tpm.ts";
