import { ShelterError } from "@shelter/base";

/** Code of an error raised while sealing, measuring or keeping images. */
export type SealErrorCode =
  | "ASSETS_MISSING"
  | "YAML_MALFORMED"
  | "MANIFEST_MALFORMED"
  | "USER_UNKNOWN"
  | "NAME_MALFORMED"
  | "IMAGE_UNKNOWN"
  | "IMAGE_AMBIGUOUS"
  | "IMAGE_IN_USE"
  | "IMAGE_DAMAGED"
  | "KEY_MALFORMED"
  | "TOOL_MISSING"
  | "TOOL_FAILED"
  | "DISK_FULL"
  | "BUILD_ABORTED"
  | "STORE_BUSY"
  | "KERNEL_MALFORMED"
  | "FIRMWARE_MISSING"
  | "FIRMWARE_UNKNOWN"
  | "FIRMWARE_MALFORMED"
  | "SHAPE_UNSUPPORTED"
  | "PLATFORM_UNSUPPORTED";

/** What went wrong while sealing, measuring or keeping an image. */
export class SealError extends ShelterError<SealErrorCode> {}
