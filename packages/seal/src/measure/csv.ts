import { SealError } from "../errors.ts";
import type { OvmfImage } from "./ovmf-sev.ts";
import { sevLaunchDigest } from "./snp.ts";
import type { KernelHashes } from "./snp-hashes.ts";

/**
 * What of a Hygon guest goes into its launch digest.
 *
 * Unverified: Hygon publishes no specification of the digest, and no value measured by a chip over public inputs
 * exists to compare with. That it is SEV's construction with SM3 in place of SHA-256 (the firmware, then QEMU's table
 * of kernel hashes, which themselves stay SHA-256, then the processors of CSV2) is what Hygon's `calc_vm_digest` is
 * described to do. The construction itself is tested with SHA-256 against SEV's published values.
 */
export interface CsvLaunch {
  readonly firmware: OvmfImage;
  /** With kernel hashes; absent where firmware finds its own way to boot. */
  readonly kernel?: KernelHashes;
  /** The policy the guest is launched with: its ES bit makes it CSV2, whose processors are measured too. */
  readonly policy: number;
  readonly vcpus: number;
  /** CPUID signature the guest's processors have; that of QEMU's model `Dhyana` unless told. Only CSV2 has it. */
  readonly cpuSignature?: number;
}

const POLICY_ES = 1 << 2;
const POLICY_CSV3 = 1 << 6;

/** CPUID signature of QEMU's processor model `Dhyana`: family 24, model 0, stepping 1. */
export const DHYANA_SIGNATURE = 0x900f01;

/** The `measure` a CSV report of this guest should have; `CsvLaunch` says how sure that is. */
export function csvLaunchDigest(launch: CsvLaunch): Uint8Array {
  const { firmware, kernel, vcpus, policy } = launch;
  if ((policy & POLICY_CSV3) !== 0) {
    throw new SealError("PLATFORM_UNSUPPORTED", "unavailable", "no predictions for CSV3", {
      hint: "CSV3 guests are launched page by page, in a way nobody describes; take the measure from a first report",
    });
  }
  return sevLaunchDigest(
    {
      firmware,
      ...(kernel === undefined ? {} : { kernel }),
      vcpus,
      vmm: "qemu",
      cpuSignature: launch.cpuSignature ?? DHYANA_SIGNATURE,
      guestFeatures: 0n,
    },
    (policy & POLICY_ES) === 0 ? "sev" : "sev-es",
    "sm3",
  );
}
