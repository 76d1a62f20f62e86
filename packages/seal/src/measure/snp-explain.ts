import { toHex } from "@shelter/base";
import { SealError } from "../errors.ts";
import { readOvmf } from "./ovmf-sev.ts";
import { type SnpLaunch, snpFirmwareDigest, snpLaunchDigests } from "./snp.ts";

/** A change to a launch that could explain a digest. */
export interface SnpAlternatives {
  readonly firmwares?: readonly { readonly name: string; readonly data: Uint8Array }[];
  readonly kernels?: readonly { readonly name: string; readonly hash: Uint8Array }[];
  readonly initrds?: readonly { readonly name: string; readonly hash: Uint8Array }[];
  readonly cmdlines?: readonly { readonly name: string; readonly hash: Uint8Array }[];
  readonly cpuModels?: Readonly<Record<string, number>>;
  readonly maximumVcpus?: number;
}

/** One component that differs from what was predicted. */
export interface SnpDifference {
  readonly component:
    | "firmware"
    | "kernel"
    | "initrd"
    | "command line"
    | "vcpus"
    | "cpu model"
    | "monitor"
    | "guest features"
    | "kernel hashes";
  readonly predicted: string;
  readonly measured: string;
}

/**
 * Which changes lead from a predicted launch to a measured digest. A launch digest is one hash over
 * everything, so this tries: none, then one change, then one change together with another number of
 * vCPUs. Undefined when nothing that was tried leads there.
 */
export function explainSnp(
  launch: SnpLaunch,
  measured: Uint8Array,
  alternatives: SnpAlternatives = {},
): readonly SnpDifference[] | undefined {
  const wanted = toHex(measured);
  const maximum = Math.max(launch.vcpus, alternatives.maximumVcpus ?? 256);
  for (const candidate of candidates(launch, alternatives)) {
    let vcpus = 0;
    for (const digest of digestsOf({ ...candidate.launch, vcpus: maximum })) {
      vcpus++;
      if (toHex(digest) !== wanted) continue;
      const count: SnpDifference[] =
        vcpus === launch.vcpus
          ? []
          : [{ component: "vcpus", predicted: String(launch.vcpus), measured: String(vcpus) }];
      return [...candidate.differences, ...count];
    }
  }
  return undefined;
}

function* digestsOf(launch: SnpLaunch): Generator<Uint8Array> {
  try {
    yield* snpLaunchDigests(launch);
  } catch (error) {
    // An alternative that cannot be launched at all explains nothing.
    if (!(error instanceof SealError)) throw error;
  }
}

interface Candidate {
  readonly launch: SnpLaunch;
  readonly differences: readonly SnpDifference[];
}

function* candidates(launch: SnpLaunch, alternatives: SnpAlternatives): Generator<Candidate> {
  yield { launch, differences: [] };
  const { kernel } = launch;
  const one = (
    component: SnpDifference["component"],
    predicted: string,
    now: string,
    changed: SnpLaunch,
  ): Candidate => ({
    launch: changed,
    differences: [{ component, predicted, measured: now }],
  });
  if (kernel !== undefined) {
    for (const [component, member, list] of [
      ["kernel", "kernel", alternatives.kernels],
      ["initrd", "initrd", alternatives.initrds],
      ["command line", "cmdline", alternatives.cmdlines],
    ] as const) {
      for (const { name, hash } of list ?? []) {
        yield one(component, toHex(kernel[member]), name, {
          ...launch,
          kernel: { ...kernel, [member]: hash },
        });
      }
    }
    const { kernel: _, ...without } = launch;
    yield one("kernel hashes", "present", "absent", without);
  }
  for (const { name, data } of alternatives.firmwares ?? []) {
    const { firmwareDigest: _, ...rest } = launch;
    yield one("firmware", toHex(launch.firmwareDigest ?? snpFirmwareDigest(launch.firmware)), name, {
      ...rest,
      firmware: readOvmf(data),
    });
  }
  for (const [name, cpuSignature] of Object.entries(alternatives.cpuModels ?? {})) {
    if (cpuSignature === launch.cpuSignature) continue;
    yield one("cpu model", `0x${launch.cpuSignature.toString(16)}`, name, { ...launch, cpuSignature });
  }
  for (const vmm of ["qemu", "ec2", "gce"] as const) {
    if (vmm !== launch.vmm) yield one("monitor", launch.vmm, vmm, { ...launch, vmm });
  }
  for (const guestFeatures of [0x1n, 0x21n, 0x5n]) {
    if (guestFeatures === launch.guestFeatures) continue;
    const text = (n: bigint): string => `0x${n.toString(16)}`;
    yield one("guest features", text(launch.guestFeatures), text(guestFeatures), {
      ...launch,
      guestFeatures,
    });
  }
}
