import { spawn } from "node:child_process";
import {
  accessSync,
  constants,
  existsSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { parseJson, replaceFile } from "@shelter/base";
import { kvmPayload, PAYLOAD_STATUS } from "./kvm-payload.ts";
import {
  type FirmwareFiles,
  type HostPart,
  type HostReport,
  PLATFORMS,
  type Platform,
  type PlatformReport,
} from "./platform.ts";

/** Seconds a processor gets to run two hundred bytes. */
const KVM_TIMEOUT = 5;

/** Where distributions put the firmware; the first that is there counts. */
const FIRMWARE: Readonly<Record<keyof FirmwareFiles, readonly string[]>> = {
  ovmfCode: ["/usr/share/OVMF/OVMF_CODE_4M.fd"],
  ovmfVars: ["/usr/share/OVMF/OVMF_VARS_4M.fd"],
  ovmfAmdSev: ["/usr/share/ovmf/OVMF.amdsev.fd", "/usr/share/edk2/ovmf/OVMF.amdsev.fd"],
  ovmfTdx: ["/usr/share/ovmf/OVMF.inteltdx.fd", "/usr/share/edk2/ovmf/OVMF.inteltdx.fd"],
};

/** How a host is looked at. */
export interface ProbeOptions {
  /** State directory; what costs time to find out is kept there until the next boot or another QEMU. */
  readonly state: string;
  /** Look again, whatever is kept. */
  readonly fresh?: boolean;
  readonly env?: NodeJS.ProcessEnv;
}

/** What was found out by running QEMU. */
interface Tried {
  readonly key: string;
  readonly version: string;
  readonly objects: readonly string[];
  /** Null when the processor ran the payload, else why not. */
  readonly kvm: string | null;
}

/** Path of a program, or null. */
export function findProgram(name: string, env: NodeJS.ProcessEnv = process.env): string | null {
  for (const directory of `${env["PATH"] ?? ""}${delimiter}/usr/sbin${delimiter}/sbin`.split(delimiter)) {
    if (directory === "") continue;
    const path = join(directory, name);
    try {
      accessSync(path, constants.X_OK);
      if (statSync(path).isFile()) return path;
    } catch {
      // not there
    }
  }
  return null;
}

/** What this host has, with what each missing part would give and how to get it. */
export async function probeHost(options: ProbeOptions): Promise<HostReport> {
  const env = options.env ?? process.env;
  const qemuPath = findProgram("qemu-system-x86_64", env);
  const tried = qemuPath === null ? null : await tryQemu(qemuPath, options);
  const firmware = findFirmware(env);
  const swtpm = findProgram("swtpm", env);
  const swtpmSetup = findProgram("swtpm_setup", env);
  const setpriv = findProgram("setpriv", env);
  const cpu = processor();
  const snp = flag("/sys/module/kvm_amd/parameters/sev_snp");
  const tdx = flag("/sys/module/kvm_intel/parameters/tdx");
  const csv = cpu.vendor === "HygonGenuine" && flag("/sys/module/kvm_amd/parameters/sev");
  const sevDevice = existsSync("/dev/sev");
  const vsock = existsSync("/dev/vhost-vsock");
  const has = (object: string): boolean => tried?.objects.includes(object) === true;
  const kvm = tried !== null && tried.kvm === null;

  const parts: HostPart[] = [
    part(
      "qemu",
      qemuPath !== null,
      tried === null ? "qemu-system-x86_64 is not in PATH" : `${tried.version} (${qemuPath})`,
      "runs guests; nothing runs without it",
      "apt-get install qemu-system-x86",
    ),
    part(
      "setpriv",
      setpriv !== null,
      setpriv ?? "setpriv is not in PATH",
      "ends QEMU with the process that started it; nothing runs without it",
      "apt-get install util-linux",
    ),
    part(
      "kvm",
      kvm,
      kvm ? "boots a 64-bit guest" : (tried?.kvm ?? "no QEMU to try it with"),
      "runs guests at the processor's speed; without it they are emulated, about ten times slower",
      kvmRemedy(tried?.kvm ?? null),
    ),
    part(
      "ovmf",
      firmware.ovmfCode !== null && firmware.ovmfVars !== null,
      firmware.ovmfCode ?? "no OVMF_CODE_4M.fd",
      "measured boot (platform vtpm)",
      "apt-get install ovmf",
    ),
    part(
      "swtpm",
      swtpm !== null && swtpmSetup !== null,
      swtpm === null ? "swtpm is not in PATH" : swtpmSetup === null ? "swtpm_setup is not in PATH" : swtpm,
      "a TPM 2.0 for measured boot (platform vtpm)",
      "apt-get install swtpm swtpm-tools",
    ),
    part(
      "vhost-vsock",
      vsock,
      vsock ? "/dev/vhost-vsock" : "no /dev/vhost-vsock",
      "nothing yet: a virtio-serial port carries the agent protocol",
      "modprobe vhost_vsock",
    ),
    part(
      "sev-snp",
      snp && sevDevice,
      snp
        ? sevDevice
          ? "kvm_amd.sev_snp and /dev/sev"
          : "kvm_amd.sev_snp, and no /dev/sev"
        : `${cpu.model}: kvm_amd.sev_snp is not on`,
      "memory the host cannot read, evidence signed by AMD (platform snp)",
      "an AMD EPYC of the third generation or later with SEV-SNP on in the BIOS, and Linux 6.11 or later",
    ),
    part(
      "tdx",
      tdx,
      tdx ? "kvm_intel.tdx" : `${cpu.model}: kvm_intel.tdx is not on`,
      "memory the host cannot read, evidence signed by Intel (platform tdx)",
      "an Intel Xeon of the fifth generation or later with TDX on in the BIOS, Linux 6.16 or later, and kvm_intel.tdx=1",
    ),
    part(
      "csv",
      csv && sevDevice,
      csv
        ? sevDevice
          ? "Hygon processor and /dev/sev"
          : "Hygon processor, and no /dev/sev"
        : `${cpu.model}: not a Hygon processor with CSV`,
      "memory the host cannot read, evidence signed by Hygon (platform csv)",
      "a Hygon processor with CSV on in the BIOS and kvm_amd.sev=1",
    ),
    part(
      "qemu-snp",
      has("sev-snp-guest"),
      has("sev-snp-guest") ? "object sev-snp-guest" : "no object sev-snp-guest in this QEMU",
      "SEV-SNP guests",
      "QEMU 9.1 or later",
    ),
    part(
      "qemu-tdx",
      has("tdx-guest"),
      has("tdx-guest") ? "object tdx-guest" : "no object tdx-guest in this QEMU",
      "TDX guests",
      "QEMU 10.1 or later",
    ),
    part(
      "qemu-sev",
      has("sev-guest"),
      has("sev-guest") ? "object sev-guest" : "no object sev-guest in this QEMU",
      "CSV guests",
      "a QEMU built with SEV",
    ),
    part(
      "ovmf-amdsev",
      firmware.ovmfAmdSev !== null,
      firmware.ovmfAmdSev ?? "no OVMF.amdsev.fd",
      "firmware that checks kernel hashes (platforms snp and csv)",
      "the ovmf package of Debian 13 or later, or edk2 built from OvmfPkg/AmdSev",
    ),
    part(
      "ovmf-tdx",
      firmware.ovmfTdx !== null,
      firmware.ovmfTdx ?? "no OVMF.inteltdx.fd",
      "firmware for TDX guests",
      "the ovmf package of Debian 13 or later, or edk2 built from OvmfPkg/IntelTdx",
    ),
  ];
  return {
    parts,
    platforms: PLATFORMS.map((p) => reportOf(p, parts)),
    accelerator: kvm ? "kvm" : "tcg",
    qemu: qemuPath === null || tried === null ? null : { path: qemuPath, version: tried.version },
    firmware,
    cbitPosition: null,
    reducedPhysBits: null,
    vsock,
  };
}

/** Parts a platform cannot do without. */
const NEEDS: Readonly<Record<Platform, readonly string[]>> = {
  none: ["qemu", "setpriv"],
  vtpm: ["qemu", "setpriv", "ovmf", "swtpm"],
  snp: ["qemu", "setpriv", "kvm", "sev-snp", "qemu-snp", "ovmf-amdsev"],
  tdx: ["qemu", "setpriv", "kvm", "tdx", "qemu-tdx", "ovmf-tdx"],
  csv: ["qemu", "setpriv", "kvm", "csv", "qemu-sev", "ovmf-amdsev"],
};

function reportOf(platform: Platform, parts: readonly HostPart[]): PlatformReport {
  const missing = NEEDS[platform].filter((name) => parts.find((p) => p.name === name)?.present !== true);
  return { platform, available: missing.length === 0, missing };
}

function part(name: string, present: boolean, detail: string, gives: string, remedy: string): HostPart {
  return present ? { name, present, detail, gives } : { name, present, detail, gives, remedy };
}

function kvmRemedy(reason: string | null): string {
  return reason?.includes("permission") === true
    ? "add yourself to the group kvm: sudo adduser $USER kvm"
    : "a host with hardware virtualisation switched on, or nested virtualisation in the machine around it";
}

function findFirmware(env: NodeJS.ProcessEnv): FirmwareFiles {
  const first = (name: keyof FirmwareFiles): string | null =>
    FIRMWARE[name].find((p) => existsSync(p)) ?? null;
  return {
    // Another build than the distribution's, with the same layout of its variables.
    ovmfCode: env["SHELTER_OVMF_CODE"] ?? first("ovmfCode"),
    ovmfVars: first("ovmfVars"),
    ovmfAmdSev: first("ovmfAmdSev"),
    ovmfTdx: first("ovmfTdx"),
  };
}

function processor(): { vendor: string; model: string } {
  const text = readText("/proc/cpuinfo");
  const field = (name: string): string =>
    new RegExp(`^${name}\\s*: (.*)$`, "m").exec(text)?.[1] ?? "unknown processor";
  return { vendor: field("vendor_id"), model: field("model name") };
}

function flag(path: string): boolean {
  return /^[Y1]/.test(readText(path));
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

/** Runs QEMU to see what it can do, once per boot and QEMU. */
async function tryQemu(qemu: string, options: ProbeOptions): Promise<Tried> {
  const file = join(options.state, "host.json");
  const kvmAccess = access("/dev/kvm");
  const key = [
    readText("/proc/sys/kernel/random/boot_id").trim(),
    qemu,
    statSync(qemu).mtimeMs,
    kvmAccess,
  ].join(" ");
  if (options.fresh !== true) {
    const kept = readKept(file);
    if (kept?.key === key) return kept;
  }
  const [version, objects, kvm] = await Promise.all([
    output(qemu, ["--version"]),
    output(qemu, ["-object", "help"]),
    kvmAccess === null ? tryKvm(qemu) : kvmAccess,
  ]);
  const tried: Tried = {
    key,
    version: /version (\S+)/.exec(version)?.[1] ?? "unknown",
    objects: objects.split("\n").map((l) => l.trim()),
    kvm,
  };
  replaceFile(file, JSON.stringify(tried));
  return tried;
}

function readKept(file: string): Tried | null {
  const text = readText(file);
  if (text === "") return null;
  try {
    const value = parseJson(text, file) as Partial<Record<keyof Tried, unknown>>;
    const { key, version, objects, kvm } = value;
    if (typeof key !== "string" || typeof version !== "string" || !Array.isArray(objects)) return null;
    if (kvm !== null && typeof kvm !== "string") return null;
    return { key, version, objects: objects.map(String), kvm };
  } catch {
    return null;
  }
}

/** Null when a device may be opened, else why not. */
function access(device: string): string | null {
  if (!existsSync(device)) return `no ${device}`;
  try {
    accessSync(device, constants.R_OK | constants.W_OK);
    return null;
  } catch {
    return `no permission to open ${device}`;
  }
}

/**
 * Boots a payload that needs what every kernel needs. A `/dev/kvm` that opens says little: under another
 * hypervisor it may exist and run nothing but the simplest instructions.
 */
async function tryKvm(qemu: string): Promise<string | null> {
  const directory = mkdtempSync(join(tmpdir(), "shelter-kvm-"));
  try {
    const image = join(directory, "payload.bin");
    writeFileSync(image, kvmPayload());
    const args = ["-machine", "q35,accel=kvm", "-cpu", "max", "-m", "32", "-nodefaults", "-no-user-config"];
    args.push("-display", "none", "-bios", image, "-device", "isa-debug-exit,iobase=0xf4,iosize=4");
    const { status, errors, timedOut } = await run(qemu, args, KVM_TIMEOUT, /KVM internal error/);
    if (status === PAYLOAD_STATUS) return null;
    if (/KVM internal error/.test(errors))
      return "/dev/kvm opens and cannot run a 64-bit guest (KVM internal error)";
    if (timedOut) return `/dev/kvm opens and a guest on it does not get anywhere in ${KVM_TIMEOUT} s`;
    return `/dev/kvm opens and QEMU fails on it: ${errors.trim().split("\n").at(-1) ?? `status ${status}`}`;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function output(program: string, args: readonly string[]): Promise<string> {
  return (await run(program, args, 10, null)).out;
}

interface Ran {
  readonly status: number | null;
  readonly out: string;
  readonly errors: string;
  readonly timedOut: boolean;
}

/** Runs a program to its end, its time-out, or a line on stderr that decides. */
function run(
  program: string,
  args: readonly string[],
  seconds: number,
  decided: RegExp | null,
): Promise<Ran> {
  return new Promise((resolve) => {
    const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let errors = "";
    let timedOut = false;
    const timer = setTimeout(() => {
      timedOut = true;
      child.kill("SIGKILL");
    }, seconds * 1000);
    child.stdout.on("data", (d: Buffer) => {
      if (out.length < 65536) out += d.toString();
    });
    child.stderr.on("data", (d: Buffer) => {
      if (errors.length < 65536) errors += d.toString();
      if (decided?.test(errors) === true) child.kill("SIGKILL");
    });
    child.on("error", (error) => {
      clearTimeout(timer);
      resolve({ status: null, out, errors: error.message, timedOut });
    });
    child.on("close", (status) => {
      clearTimeout(timer);
      resolve({ status, out, errors, timedOut });
    });
  });
}
