/** What isolates and vouches for a guest. */
export type Platform = "vtpm" | "none" | "snp" | "tdx" | "csv";

/** Every platform, strongest first. */
export const PLATFORMS: readonly Platform[] = ["snp", "tdx", "csv", "vtpm", "none"];

/** How the guest's instructions run: by the processor, or emulated. */
export type Accelerator = "kvm" | "tcg";

/** One thing this host may have. */
export interface HostPart {
  /** Stable kebab-case name: `qemu`, `kvm`, `ovmf`, `swtpm`, `vhost-vsock`, `sev-snp`, `tdx`, `csv`, `setpriv`. */
  readonly name: string;
  readonly present: boolean;
  /** What was found: a version, a path, or why it does not work. */
  readonly detail: string;
  /** What it gives; for a missing part, what is lost. */
  readonly gives: string;
  /** How to get it, for a missing part. */
  readonly remedy?: string;
}

/** Whether a platform can run here. */
export interface PlatformReport {
  readonly platform: Platform;
  readonly available: boolean;
  /** The missing pieces by name; empty when available. */
  readonly missing: readonly string[];
}

/** What this host has. */
export interface HostReport {
  readonly parts: readonly HostPart[];
  readonly platforms: readonly PlatformReport[];
  readonly accelerator: Accelerator;
  readonly qemu: { readonly path: string; readonly version: string } | null;
  readonly firmware: FirmwareFiles;
  /** Bit of a page-table entry that marks memory encrypted (CPUID 8000001F EBX[5:0]); null where unknown. */
  readonly cbitPosition: number | null;
  readonly reducedPhysBits: number | null;
  readonly vsock: boolean;
}

/** Firmware images found; null where there is none. */
export interface FirmwareFiles {
  /** Split build for measured boot: code and the template of its variables. */
  readonly ovmfCode: string | null;
  readonly ovmfVars: string | null;
  /** Stateless build for SEV-SNP and CSV with kernel hashes. */
  readonly ovmfAmdSev: string | null;
  /** Build for TDX. */
  readonly ovmfTdx: string | null;
}

/** A platform chosen for a run, and what the person must be told about it. */
export interface PlatformChoice {
  readonly platform: Platform;
  readonly accelerator: Accelerator;
  /** One line each, for stderr. */
  readonly notices: readonly string[];
}
