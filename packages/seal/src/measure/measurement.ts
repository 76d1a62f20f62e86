import type { Digest } from "@shelter/base";

/** What isolates a guest and vouches for it; `none` is measured by nobody. */
export type MeasuredPlatform = "vtpm" | "snp" | "tdx" | "csv";

/** What of a machine goes into its measurements. */
export type MachineShape = { readonly cpus: number; readonly memory: number };

/** One thing a platform measures at boot, predicted. */
export type PredictedEvent = {
  readonly pcr: number;
  /** As the TCG names it: `EV_SEPARATOR`. */
  readonly type: string;
  /** What is measured, for a person. */
  readonly description: string;
  /** Hex SHA-256 extended into the register. */
  readonly digest: string;
};

/** What a platform will report of a boot, computed before it. */
export type Measurement = {
  readonly platform: MeasuredPlatform;
  readonly shape: MachineShape;
  /** Hex value of each predicted register by its number. */
  readonly pcrs: { readonly [pcr: string]: string };
  readonly events: readonly PredictedEvent[];
};

/** What to predict: `memory` in bytes, `firmware` the firmware's code file. */
export type MeasureRequest = {
  readonly imageDirectory: string;
  readonly platform: MeasuredPlatform;
  readonly cpus: number;
  readonly memory: number;
  readonly firmware?: string;
  /** Physical address bits of the guest's CPU (QEMU's `phys-bits`); 40 unless told. */
  readonly physBits?: number;
};

/** Measurements a broker expects (docs/formats.md, "Reference values"). */
export type ReferenceValues = {
  readonly version: 1;
  readonly workload: string;
  readonly image: Digest;
  readonly values: readonly {
    readonly platform: MeasuredPlatform;
    readonly shape: MachineShape;
    readonly pcrs: { readonly [pcr: string]: string };
  }[];
};
