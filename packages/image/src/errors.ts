import { type ErrorKind, ShelterError } from "@shelter/base";

/** Everything that can be wrong with an image, its archive or its file tree. */
export type ImageErrorCode =
  | "SOURCE_NOT_FOUND"
  | "SOURCE_AMBIGUOUS"
  | "SOURCE_UNSUPPORTED"
  | "SOURCE_CHANGED"
  | "IMAGE_MALFORMED"
  | "PLATFORM_ABSENT"
  | "LAYER_REFUSED"
  | "DIGEST_MISMATCH"
  | "COMPRESSION_BROKEN"
  | "TAR_MALFORMED"
  | "TAR_TRUNCATED"
  | "ENTRY_REFUSED"
  | "LIMIT_EXCEEDED"
  | "PATH_NOT_FOUND"
  | "OUTPUT_FAILED";

const KINDS: Readonly<Record<ImageErrorCode, ErrorKind>> = {
  SOURCE_NOT_FOUND: "usage",
  SOURCE_AMBIGUOUS: "usage",
  SOURCE_UNSUPPORTED: "usage",
  SOURCE_CHANGED: "unavailable",
  IMAGE_MALFORMED: "malformed",
  PLATFORM_ABSENT: "refused",
  LAYER_REFUSED: "refused",
  DIGEST_MISMATCH: "refused",
  COMPRESSION_BROKEN: "malformed",
  TAR_MALFORMED: "malformed",
  TAR_TRUNCATED: "malformed",
  ENTRY_REFUSED: "refused",
  LIMIT_EXCEEDED: "refused",
  PATH_NOT_FOUND: "usage",
  OUTPUT_FAILED: "unavailable",
};

/** An image that cannot be read, is not what it claims, or is refused; the code decides the kind. */
export class ImageError extends ShelterError<ImageErrorCode> {
  constructor(code: ImageErrorCode, message: string, options: { cause?: unknown; hint?: string } = {}) {
    super(code, KINDS[code], message, options);
  }
}
