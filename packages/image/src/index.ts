export type { ExposedPort, ImageConfig } from "./config.ts";
export { ImageError, type ImageErrorCode } from "./errors.ts";
export { flatten } from "./flatten.ts";
export { DEFAULT_LIMITS, type FlattenLimits } from "./limits.ts";
export type { NodeType } from "./node.ts";
export { openSource } from "./open.ts";
export type { ImageSource, SourceKind } from "./source.ts";
export type { FlatTree, NodeInfo, TreeTotals } from "./tree.ts";
