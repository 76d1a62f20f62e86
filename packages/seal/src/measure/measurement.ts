import type { Digest } from "@shelter/base";

/** What isolates a guest and vouches for it; `none` is measured by nobody. */
export type MeasuredPlatform = "vtpm" | "snp" | "tdx" | "csv";

/** What of a machine goes into its measurements; `memory` in bytes. */
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
  /** In the order of the boot. */
  readonly events: readonly PredictedEvent[];
};

/** What of the guest's processor the firmware looks at. */
export type Processor = {
  /** Width of physical addresses, QEMU's `phys-bits`. */
  readonly physBits: number;
  /** As CPUID tells it: emulation and AMD say `AuthenticAMD`, Intel under KVM `GenuineIntel`. */
  readonly vendor: "AuthenticAMD" | "GenuineIntel";
};

/** What to predict. */
export type MeasureRequest = {
  readonly imageDirectory: string;
  readonly platform: MeasuredPlatform;
  readonly cpus: number;
  /** Bytes. */
  readonly memory: number;
  /** The firmware's code file; Debian's `OVMF_CODE_4M.fd` unless told. */
  readonly firmware?: string | undefined;
  /** 40 bits and `AuthenticAMD` unless told: what `@shelter/vm` starts, emulated. */
  readonly processor?: Processor | undefined;
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
    /** What the registers are made of: only for saying in words what differs. */
    readonly events: readonly { readonly pcr: number; readonly digest: string; readonly what: string }[];
  }[];
};
