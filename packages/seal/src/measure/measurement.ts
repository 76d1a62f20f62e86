import type { Digest } from "@shelter/base";
import type { AcpiFiles, TdxEvent } from "./tdx.ts";

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
  /** What it depends on, for telling what changed; `machine` is the firmware with what it knows of the machine. */
  readonly component: "firmware" | "machine" | "secure boot" | "kernel" | "initrd" | "command line" | "boot";
  /** Hex SHA-256 extended into the register. */
  readonly digest: string;
};

/** What a TPM will hold after a boot. */
export type VtpmMeasurement = {
  readonly platform: "vtpm";
  readonly shape: MachineShape;
  /** Hex value of each predicted register by its number. */
  readonly pcrs: { readonly [pcr: string]: string };
  /** In the order of the boot. */
  readonly events: readonly PredictedEvent[];
};

/** One way to launch a guest, and the digest it leads to. */
export type Launch = {
  /** Every model of QEMU with the CPUID signature this digest depends on; none where no processor is measured. */
  readonly cpuModels: readonly string[];
  /** CSV only: `CSV2` measures the processors too. */
  readonly generation?: "CSV" | "CSV2";
  /** Without them the firmware alone is measured, and what it boots is anybody's. */
  readonly kernelHashes: boolean;
  /** Hex. */
  readonly measurement: string;
};

/** Hex digests of what a launch consists of. */
export type LaunchComponents = {
  readonly firmware: string;
  readonly kernel: string;
  readonly initrd: string;
  readonly cmdline: string;
};

/** The launch digest an SNP or CSV report will have: one for each way the host may launch. */
export type LaunchMeasurement = {
  readonly platform: "snp" | "csv";
  readonly shape: MachineShape;
  readonly launches: readonly Launch[];
  readonly components: LaunchComponents;
};

/** What a TDX quote will have. */
export type TdxMeasurement = {
  readonly platform: "tdx";
  readonly shape: MachineShape;
  /** Hex, by the order in which the VMM adds pages. */
  readonly mrtd: { readonly pageByPage: string; readonly sectionBySection: string };
  /** Hex by number; 0 only when the machine's ACPI tables were given. */
  readonly rtmrs: { readonly [rtmr: string]: string };
  readonly events: readonly TdxEvent[];
};

/** What a platform will report of a boot, computed before it. */
export type Measurement = VtpmMeasurement | LaunchMeasurement | TdxMeasurement;

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
  /** The firmware's file; for `vtpm` Debian's `OVMF_CODE_4M.fd` unless told, for the others there is no default. */
  readonly firmware?: string | undefined;
  /** 40 bits and `AuthenticAMD` unless told: what `@shelter/vm` starts, emulated. */
  readonly processor?: Processor | undefined;
  /** SNP: QEMU's CPU models; all that are known unless told. */
  readonly cpuModels?: readonly string[] | undefined;
  /** TDX: the tables this machine's QEMU writes, without which RTMR0 is unknown. */
  readonly acpi?: AcpiFiles | undefined;
};

/** One state of a machine that is right. */
export type ReferenceValue =
  | {
      readonly platform: "vtpm";
      readonly shape: MachineShape;
      readonly pcrs: { readonly [pcr: string]: string };
      /** What the registers are made of: only for saying in words what differs. */
      readonly events: readonly { readonly pcr: number; readonly digest: string; readonly what: string }[];
    }
  | {
      readonly platform: "snp" | "csv";
      readonly shape: MachineShape;
      readonly cpuModels: readonly string[];
      readonly measurement: string;
    }
  | {
      readonly platform: "tdx";
      readonly shape: MachineShape;
      readonly mrtd: string;
      readonly rtmrs: { readonly [rtmr: string]: string };
    };

/** Measurements a broker expects (docs/formats.md, "Reference values"). */
export type ReferenceValues = {
  readonly version: 1;
  readonly workload: string;
  readonly image: Digest;
  readonly values: readonly ReferenceValue[];
};
