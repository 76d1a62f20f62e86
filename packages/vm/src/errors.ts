import { ShelterError } from "@shelter/base";

/** What keeps an instance from starting, going on or being found. */
export type VmErrorCode =
  | "PLATFORM_UNAVAILABLE"
  | "TOOL_MISSING"
  | "TPM_SETUP"
  | "INSTANCE_NAME"
  | "INSTANCE_NAME_TAKEN"
  | "INSTANCE_UNKNOWN"
  | "INSTANCE_AMBIGUOUS"
  | "INSTANCE_RUNNING"
  | "INSTANCE_NOT_RUNNING"
  | "INSTANCE_STATE"
  | "INSTANCE_CONFIG"
  | "RUNTIME_DIRECTORY"
  | "BOOT_TIMEOUT"
  | "MACHINE_DIED"
  | "TPM_DIED"
  | "GUEST_PANIC"
  | "CONTROL_PROTOCOL"
  | "CONTROL_LOST";

/** Anything that goes wrong with a virtual machine or its instance on this host. */
export class VmError extends ShelterError<VmErrorCode> {}
