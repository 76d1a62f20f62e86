import type { InstanceConfig } from "./config.ts";
import { VmError } from "./errors.ts";
import { MACHINE, MEMORY_UNIT, MIN_MEMORY } from "./machine.ts";
import type { FirmwareFiles, Platform } from "./platform.ts";

/** Files and sockets of one instance that its command line names. */
export interface MachinePaths {
  readonly agentSocket: string;
  readonly monitorSocket: string;
  readonly tpmSocket: string;
  /** Private copy of the firmware's variables. */
  readonly variables: string;
}

/** What of a host the command line depends on. */
export interface CommandHost {
  readonly qemu: string;
  readonly firmware: FirmwareFiles;
  readonly cbitPosition: number | null;
  readonly reducedPhysBits: number | null;
}

/** What to run, and what to tell the person about it. */
export interface MachineCommand {
  readonly argv: readonly string[];
  readonly notices: readonly string[];
}

/** Firmware as `--dry-run` names it where the host has none. */
const PLACEHOLDER: Readonly<Record<keyof FirmwareFiles, string>> = {
  ovmfCode: "OVMF_CODE_4M.fd",
  ovmfVars: "OVMF_VARS_4M.fd",
  ovmfAmdSev: "OVMF.amdsev.fd",
  ovmfTdx: "OVMF.inteltdx.fd",
};

/** The exact command line of an instance. Looks at nothing but its arguments. */
export function qemuCommand(config: InstanceConfig, paths: MachinePaths, host: CommandHost): MachineCommand {
  const { image, platform } = config;
  const memory = mebibytes(config.memory);
  if (!Number.isSafeInteger(config.cpus) || config.cpus < 1 || config.cpus > 255) {
    throw new VmError("INSTANCE_CONFIG", "usage", `${config.cpus} CPUs are not 1 to 255`);
  }
  const confidential = platform === "snp" || platform === "tdx" || platform === "csv";
  const virtio = confidential ? ",disable-legacy=on,iommu_platform=on" : "";
  const notices: string[] = [];

  const argv = [
    host.qemu,
    ...["-name", `shelter-${image.identity.slice("sha256:".length, "sha256:".length + 12)}`],
    ...["-nodefaults", "-no-user-config", "-no-reboot"],
    ...["-display", "none", "-serial", "none", "-parallel", "none"],
    ...["-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"],
    ...["-accel", config.accelerator === "tcg" ? "tcg,thread=multi" : "kvm"],
    ...["-machine", machineOf(platform)],
    ...["-cpu", cpuOf(platform)],
    ...["-smp", `cpus=${config.cpus},sockets=1,cores=${config.cpus},threads=1`],
    ...["-m", `size=${memory}M`],
    ...guardOf(config, memory, host),
    ...firmwareOf(platform, paths, host.firmware),
    ...["-kernel", `${image.directory}/kernel`],
    ...["-initrd", `${image.directory}/initrd`],
    ...["-append", image.cmdline],
  ];
  if (platform === "vtpm") {
    argv.push(
      ...["-chardev", `socket,id=tpm,path=${comma(paths.tpmSocket)}`],
      ...["-tpmdev", "emulator,id=tpm0,chardev=tpm"],
      // Whole commands at a time; through the byte-wide FIFO of tpm-tis a boot takes seven per cent more.
      ...["-device", "tpm-crb,tpmdev=tpm0"],
    );
  }
  argv.push(
    ...["-chardev", `socket,id=monitor,path=${comma(paths.monitorSocket)}`],
    ...["-mon", "chardev=monitor,mode=control"],
    ...["-chardev", `socket,id=agent,path=${comma(paths.agentSocket)}`],
    ...["-device", `virtio-serial-pci,id=serial0,max_ports=2${virtio}`],
    ...["-device", "virtserialport,bus=serial0.0,chardev=agent,name=shelter.0"],
  );
  if (image.shape === "disk") {
    argv.push(...disk("root", `${image.directory}/root.squashfs`, virtio));
    argv.push(...disk("verity", `${image.directory}/root.verity`, virtio));
  }
  if (config.outbound) {
    argv.push(
      ...["-netdev", "user,id=net0"],
      // Without an option ROM: the firmware would only offer to boot from the network.
      ...["-device", `virtio-net-pci,netdev=net0,romfile=,mac=52:54:00:12:34:56${virtio}`],
    );
    notices.push("the guest has outbound network; it reaches services on this host's loopback as 10.0.2.2");
  }
  return { argv, notices };
}

/** Doubles commas, QEMU's way to have one in a value. */
function comma(value: string): string {
  return value.replaceAll(",", ",,");
}

function mebibytes(bytes: number): number {
  if (!Number.isSafeInteger(bytes) || bytes % MEMORY_UNIT !== 0) {
    throw new VmError("INSTANCE_CONFIG", "usage", `memory of ${bytes} bytes is not a whole number of MiB`);
  }
  if (bytes < MIN_MEMORY) {
    throw new VmError(
      "INSTANCE_CONFIG",
      "usage",
      `memory of ${bytes / MEMORY_UNIT} MiB is less than the ${MIN_MEMORY / MEMORY_UNIT} MiB a guest boots in`,
    );
  }
  return bytes / MEMORY_UNIT;
}

function machineOf(platform: Platform): string {
  const options = MACHINE.options.join(",");
  switch (platform) {
    case "vtpm":
    case "none":
      return `${MACHINE.type},${options}`;
    case "snp":
      return `q35,${options},confidential-guest-support=sev0,memory-backend=ram0`;
    case "tdx":
      return `q35,${options},kernel-irqchip=split,confidential-guest-support=tdx0,memory-backend=ram0`;
    case "csv":
      return `q35,${options},confidential-guest-support=csv0`;
    default:
      return platform satisfies never;
  }
}

function cpuOf(platform: Platform): string {
  return platform === "vtpm" || platform === "none" ? MACHINE.cpu : MACHINE[platform].cpu;
}

/** What encrypts the guest's memory, and the memory it can be given. */
function guardOf(config: InstanceConfig, memory: number, host: CommandHost): string[] {
  const manifest = /(?:^| )shelter\.manifest=([0-9a-f]{64})(?: |$)/.exec(config.image.cmdline)?.[1] ?? "";
  const memfd = `memory-backend-memfd,id=ram0,size=${memory}M,share=true,prealloc=false`;
  switch (config.platform) {
    case "vtpm":
    case "none":
      return [];
    case "snp": {
      const digest = Buffer.from(manifest, "hex").toString("base64");
      return [
        ...["-object", memfd],
        "-object",
        `sev-snp-guest,id=sev0,cbitpos=${host.cbitPosition ?? 51},reduced-phys-bits=${host.reducedPhysBits ?? 1},` +
          `policy=0x${MACHINE.snp.policy.toString(16)},kernel-hashes=on,host-data=${digest}`,
      ];
    }
    case "tdx": {
      const id = Buffer.concat([Buffer.from(manifest, "hex")], 48).toString("base64");
      return [
        ...["-object", memfd],
        "-object",
        JSON.stringify({
          "qom-type": "tdx-guest",
          id: "tdx0",
          mrconfigid: id,
          "quote-generation-socket": { type: "unix", path: "/var/run/tdx-qgs/qgs.socket" },
        }),
      ];
    }
    case "csv":
      return [
        "-object",
        `sev-guest,id=csv0,policy=0x${MACHINE.csv.policy.toString(16)},cbitpos=${MACHINE.csv.cbitPosition},` +
          `reduced-phys-bits=${MACHINE.csv.reducedPhysBits},kernel-hashes=on`,
      ];
    default:
      return config.platform satisfies never;
  }
}

function firmwareOf(platform: Platform, paths: MachinePaths, firmware: FirmwareFiles): string[] {
  const file = (name: keyof FirmwareFiles): string => comma(firmware[name] ?? PLACEHOLDER[name]);
  switch (platform) {
    case "none":
      return [];
    case "vtpm":
      return [
        ...["-drive", `if=pflash,unit=0,format=raw,readonly=on,file=${file("ovmfCode")}`],
        ...["-drive", `if=pflash,unit=1,format=raw,file=${comma(paths.variables)}`],
      ];
    case "snp":
      return ["-bios", firmware.ovmfAmdSev ?? PLACEHOLDER.ovmfAmdSev];
    case "tdx":
      return ["-bios", firmware.ovmfTdx ?? PLACEHOLDER.ovmfTdx];
    case "csv":
      return ["-drive", `if=pflash,unit=0,format=raw,readonly=on,file=${file("ovmfAmdSev")}`];
    default:
      return platform satisfies never;
  }
}

function disk(name: "root" | "verity", file: string, virtio: string): string[] {
  return [
    ...["-drive", `if=none,id=${name},format=raw,readonly=on,file=${comma(file)}`],
    ...["-device", `virtio-blk-pci,drive=${name},serial=shelter-${name}${virtio}`],
  ];
}
