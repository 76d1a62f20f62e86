import { createHash, type Hash } from "node:crypto";
import { fromHex, toHex } from "@shelter/base";
import { SealError } from "../errors.ts";
import { authenticodeDigest, kernelFromQemu } from "./kernel-image.ts";
import { TDVF_SECTION, type TdxFirmware, tdvfContent, tdvfSection } from "./tdx-firmware.ts";
import { tdHob } from "./tdx-hob.ts";

/** How a VMM adds the firmware: page by page with its content (QEMU since 9.1), or all pages of a section first. */
export type PageOrder = "page-by-page" | "section-by-section";

const PAGE = 4096n;
const CHUNK = 256;

function record(hash: Hash, name: "MEM.PAGE.ADD" | "MR.EXTEND", gpa: bigint): void {
  const bytes = Buffer.alloc(128);
  bytes.write(name, 0, "latin1");
  bytes.writeBigUInt64LE(gpa, 16);
  hash.update(bytes);
}

/** The MRTD of a trust domain started from this firmware (Intel TDX module, TDH.MEM.PAGE.ADD and TDH.MR.EXTEND). */
export function mrTd(firmware: TdxFirmware, order: PageOrder): Uint8Array {
  const hash = createHash("sha384");
  for (const section of firmware.sections) {
    const { gpa, memorySize, attributes } = section;
    const measured = (attributes & 1) !== 0;
    const added = (attributes & 2) === 0;
    if (!measured && !added) continue;
    const content = tdvfContent(firmware, section);
    const chunk = Buffer.alloc(CHUNK);
    const extend = (page: bigint): void => {
      for (let at = page; measured && at < page + PAGE; at += BigInt(CHUNK)) {
        record(hash, "MR.EXTEND", gpa + at);
        chunk.fill(0).set(content.subarray(Number(at), Number(at) + CHUNK));
        hash.update(chunk);
      }
    };
    for (let page = 0n; page < memorySize; page += PAGE) {
      if (added) record(hash, "MEM.PAGE.ADD", gpa + page);
      if (order === "page-by-page") extend(page);
    }
    if (order === "section-by-section") {
      for (let page = 0n; page < memorySize; page += PAGE) extend(page);
    }
  }
  return hash.digest();
}

/** ACPI tables as QEMU hands them to the firmware (`etc/table-loader`, `etc/acpi/rsdp`, `etc/acpi/tables`). */
export interface AcpiFiles {
  readonly loader: Uint8Array;
  readonly rsdp: Uint8Array;
  readonly tables: Uint8Array;
}

/** What goes into the RTMRs of a kernel that QEMU boots directly. */
export interface TdxBoot {
  readonly firmware: TdxFirmware;
  /** Bytes. */
  readonly memory: number;
  readonly kernel: Uint8Array;
  readonly initrd: Uint8Array;
  readonly cmdline: string;
  /** Without them RTMR0 cannot be known: they describe the machine QEMU builds. */
  readonly acpi?: AcpiFiles;
}

/** One thing measured into an RTMR, predicted. */
export interface TdxEvent {
  readonly rtmr: 0 | 1 | 2;
  /** As the TCG names it. */
  readonly type: string;
  readonly description: string;
  /** What it depends on, for telling what changed. */
  readonly component: "firmware" | "memory" | "kernel" | "initrd" | "command line" | "machine" | "boot";
  /** Hex SHA-384. */
  readonly digest: string;
}

/** Predicted registers in hex; RTMR0 only with ACPI tables, RTMR3 is the guest's own. */
export interface TdxRegisters {
  readonly rtmr0?: string;
  readonly rtmr1: string;
  readonly rtmr2: string;
  readonly rtmr3: string;
}

const GLOBAL = "61dfe48bca93d211aa0d00e098032b8c"; // EFI_GLOBAL_VARIABLE, mixed endian
const SECURITY = "cbb219d73a3d9645a3bcdad00e67656f"; // EFI_IMAGE_SECURITY_DATABASE
/** EFI_LOAD_OPTION: active, "UiApp", the application inside the firmware's DXE volume. */
const BOOT0000 =
  "090100002c0055006900410070007000000004071400c9bdb87cebf8344faaea3ee4af6516a1" +
  "0406140021aa2c4614760345836e8ab6f46623317fff0400";

function sha384(...parts: readonly Uint8Array[]): string {
  const hash = createHash("sha384");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}

/** UEFI_VARIABLE_DATA of a variable without content (TCG PC Client Platform Firmware Profile, 10.2.6). */
function emptyVariable(guid: string, name: string): Uint8Array {
  const head = Buffer.alloc(32);
  head.set(fromHex(guid));
  head.writeBigUInt64LE(BigInt(name.length), 16);
  return Buffer.concat([head, Buffer.from(name, "utf16le")]);
}

/** What a boot through TDVF measures into RTMR0 to RTMR2, in order (Intel TDX Virtual Firmware Design Guide, 8.1). */
export function tdxEvents(boot: TdxBoot): readonly TdxEvent[] {
  const { firmware, memory, kernel, initrd, cmdline, acpi } = boot;
  if (!Number.isSafeInteger(memory) || memory < 2 ** 24) {
    throw new SealError("SHAPE_UNSUPPORTED", "usage", `no predictions for ${memory} bytes of memory`);
  }
  const events: TdxEvent[] = [];
  const add = (
    rtmr: TdxEvent["rtmr"],
    type: string,
    component: TdxEvent["component"],
    description: string,
    digest: string,
  ): void => void events.push({ rtmr, type, component, description, digest });
  const separator = (rtmr: TdxEvent["rtmr"]): void =>
    add(rtmr, "EV_SEPARATOR", "boot", "end of the firmware's own part", sha384(new Uint8Array(4)));
  const action = (text: string): void => add(1, "EV_EFI_ACTION", "boot", text, sha384(Buffer.from(text)));

  add(
    0,
    "EV_EFI_HANDOFF_TABLES2",
    "memory",
    `hand-off block: ${memory} bytes of memory`,
    sha384(tdHob(firmware, memory)),
  );
  const variables = tdvfContent(firmware, tdvfSection(firmware, TDVF_SECTION.cfv, "variable store"));
  add(0, "EV_EFI_PLATFORM_FIRMWARE_BLOB2", "firmware", "variable store of the firmware", sha384(variables));
  for (const [guid, name] of [
    [GLOBAL, "SecureBoot"],
    [GLOBAL, "PK"],
    [GLOBAL, "KEK"],
    [SECURITY, "db"],
    [SECURITY, "dbx"],
  ] as const) {
    const digest = sha384(emptyVariable(guid, name));
    add(0, "EV_EFI_VARIABLE_DRIVER_CONFIG", "firmware", `secure boot, ${name}: none`, digest);
  }
  separator(0);
  if (acpi !== undefined) {
    add(0, "EV_PLATFORM_CONFIG_FLAGS", "machine", "ACPI table loader", sha384(acpi.loader));
    add(0, "EV_PLATFORM_CONFIG_FLAGS", "machine", "ACPI root pointer", sha384(acpi.rsdp));
    add(0, "EV_PLATFORM_CONFIG_FLAGS", "machine", "ACPI tables", sha384(acpi.tables));
  }
  add(
    1,
    "EV_EFI_BOOT_SERVICES_APPLICATION",
    "kernel",
    "kernel, with the initrd's place and size in its header",
    authenticodeDigest(kernelFromQemu(kernel, initrd.byteLength, memory), "sha384"),
  );
  add(0, "EV_EFI_VARIABLE_BOOT", "firmware", "boot order: Boot0000", sha384(Uint8Array.of(0, 0)));
  add(0, "EV_EFI_VARIABLE_BOOT", "firmware", "Boot0000: the firmware's own menu", sha384(fromHex(BOOT0000)));
  action("Calling EFI Application from Boot Option");
  separator(1);
  // X86QemuLoadImageLib appends this where there is an initrd.
  const options = `${cmdline} initrd=initrd`;
  add(
    2,
    "EV_EVENT_TAG",
    "command line",
    `command line: ${options}`,
    sha384(Buffer.from(`${options}\0`, "utf16le")),
  );
  add(2, "EV_EVENT_TAG", "initrd", "initrd", sha384(initrd));
  action("Exit Boot Services Invocation");
  action("Exit Boot Services Returned with Success");
  return events;
}

/** The registers after these events. RTMR0 is left out when the machine's own events are not among them. */
export function tdxRegisters(events: readonly TdxEvent[]): TdxRegisters {
  const values = ["00", "00", "00", "00"].map((zero) => zero.repeat(48));
  for (const { rtmr, digest } of events) {
    values[rtmr] = sha384(fromHex(values[rtmr] ?? ""), fromHex(digest));
  }
  const [rtmr0 = "", rtmr1 = "", rtmr2 = "", rtmr3 = ""] = values;
  const machine = events.some((e) => e.component === "machine");
  return { ...(machine ? { rtmr0 } : {}), rtmr1, rtmr2, rtmr3 };
}

/** One event that was measured otherwise than predicted. */
export interface TdxDifference {
  readonly component: TdxEvent["component"];
  readonly description: string;
  readonly predicted: string;
  /** Undefined when the log has no such event. */
  readonly measured: string | undefined;
}

/**
 * Which components differ, by the events of a log that replays to the quoted RTMRs: per register, the
 * predicted events in order against those measured. Give it a replayed log only.
 */
export function explainTdx(
  predicted: readonly TdxEvent[],
  measured: readonly { readonly rtmr: number; readonly digest: Uint8Array }[],
): readonly TdxDifference[] {
  const differences: TdxDifference[] = [];
  for (const rtmr of [0, 1, 2] as const) {
    const expected = predicted.filter((e) => e.rtmr === rtmr);
    // Without predicted ACPI tables the log's three are passed over.
    const machine = rtmr === 0 && !expected.some((e) => e.component === "machine");
    const log = measured.filter((e) => e.rtmr === rtmr).map((e) => toHex(e.digest));
    if (machine) log.splice(8, 3);
    for (const [i, event] of expected.entries()) {
      const { component, description, digest } = event;
      if (log[i] !== digest)
        differences.push({ component, description, predicted: digest, measured: log[i] });
    }
    for (const digest of log.slice(expected.length)) {
      differences.push({
        component: "boot",
        description: "an event that was not predicted",
        predicted: "none",
        measured: digest,
      });
    }
  }
  return differences;
}
