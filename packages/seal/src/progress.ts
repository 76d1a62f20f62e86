/** What a build is doing. */
export type BuildStep = "source" | "initrd" | "root" | "encrypt" | "verity" | "store";

/** How far one step of a build is; `total` is absent where nobody knows it. */
export type BuildProgress = { readonly step: BuildStep; readonly done: number; readonly total?: number };

/** Takes progress; must not throw. */
export type OnProgress = (progress: BuildProgress) => void;
