import { ByteReader, toHex } from "@shelter/base";
import { contentState } from "./content.ts";
import { devicePathText } from "./devicepath.ts";
import { EVENT, type EventLog, eventTypeName, type LogEvent, shownDigest } from "./log.ts";
import { readVariable } from "./variable.ts";

/** What a measurement is of, in words a person uses. */
export type Component =
  | "firmware"
  | "firmware configuration"
  | "secure boot"
  | "boot variables"
  | "boot loader"
  | "kernel"
  | "initrd"
  | "command line"
  | "partition table"
  | "separator"
  | "boot action"
  | "operating system"
  | "other";

/** One event explained. */
export interface ExplainedEvent {
  readonly event: LogEvent;
  readonly component: Component;
  /** One line, without trusting the data beyond what its digest covers. */
  readonly text: string;
  /** Whether the text rests on data the digest covers. */
  readonly verified: boolean;
}

const TAG_LOAD_OPTIONS = 0x8f3b22ed;
const TAG_INITRD = 0x8f3b22ec;
const SECURE_BOOT_VARIABLES: ReadonlySet<string> = new Set([
  "SecureBoot",
  "PK",
  "KEK",
  "db",
  "dbx",
  "dbt",
  "dbr",
  "DeployedMode",
  "AuditMode",
  "SetupMode",
]);

/** Explains every event of a log. */
export function explainLog(log: EventLog): ExplainedEvent[] {
  const lastApplication = log.events.findLast((e) => e.type === EVENT.EFI_BOOT_SERVICES_APPLICATION);
  return log.events.map((event) => {
    const [component, text] = words(event, event === lastApplication);
    return { event, component, text, verified: contentState(event) === "verified" };
  });
}

function words(event: LogEvent, lastApplication: boolean): [Component, string] {
  const { type, data, pcr } = event;
  const ascii = printable(Buffer.from(data).toString("latin1"));
  switch (type) {
    case EVENT.NO_ACTION:
      return ["other", noActionText(data)];
    case EVENT.S_CRTM_VERSION:
      return ["firmware", `firmware version ${versionText(data)}`];
    case EVENT.S_CRTM_CONTENTS:
      return ["firmware", "core root of trust for measurement"];
    case EVENT.EFI_HCRTM_EVENT:
      return ["firmware", "hardware root of trust for measurement"];
    case EVENT.CPU_MICROCODE:
      return ["firmware", "processor microcode"];
    case EVENT.POST_CODE:
    case EVENT.POST_CODE2:
      return ["firmware", `firmware code ${ascii}`];
    case EVENT.EFI_PLATFORM_FIRMWARE_BLOB:
    case EVENT.EFI_PLATFORM_FIRMWARE_BLOB2:
      return ["firmware", firmwareBlobText(type, data)];
    case EVENT.EFI_SPDM_FIRMWARE_BLOB:
    case EVENT.EFI_SPDM_FIRMWARE_CONFIG:
    case EVENT.NONHOST_CODE:
    case EVENT.NONHOST_CONFIG:
    case EVENT.NONHOST_INFO:
      return ["firmware", nonHostText(data)];
    case EVENT.PLATFORM_CONFIG_FLAGS:
    case EVENT.TABLE_OF_DEVICES:
    case EVENT.EFI_HANDOFF_TABLES:
    case EVENT.EFI_HANDOFF_TABLES2:
      return ["firmware configuration", handoffText(type, data)];
    case EVENT.SEPARATOR:
      return ["separator", separatorText(data)];
    case EVENT.ACTION:
    case EVENT.EFI_ACTION:
      return ["boot action", ascii];
    case EVENT.EFI_GPT_EVENT:
    case EVENT.EFI_GPT_EVENT2:
      return ["partition table", "partition table of the boot disk"];
    case EVENT.EFI_VARIABLE_DRIVER_CONFIG:
    case EVENT.EFI_VARIABLE_BOOT:
    case EVENT.EFI_VARIABLE_BOOT2:
    case EVENT.EFI_VARIABLE_AUTHORITY:
      return variableWords(event);
    case EVENT.EFI_BOOT_SERVICES_APPLICATION:
      return [lastApplication ? "kernel" : "boot loader", `EFI application ${imagePath(data)}`];
    case EVENT.EFI_BOOT_SERVICES_DRIVER:
    case EVENT.EFI_RUNTIME_SERVICES_DRIVER:
      return ["firmware", `EFI driver ${imagePath(data)}`];
    case EVENT.EVENT_TAG:
      return tagWords(data, ascii);
    case EVENT.IPL:
    case EVENT.IPL_PARTITION_DATA:
    case EVENT.COMPACT_HASH:
      return iplWords(data, pcr);
    default:
      return ["other", eventTypeName(type)];
  }
}

const MAX_TEXT = 4096; // a kernel command line

function printable(text: string): string {
  const cut = text.replace(/\0[\s\S]*$/, "").replace(/[^\x20-\x7e]/g, "?");
  return cut.length > MAX_TEXT ? `${cut.slice(0, MAX_TEXT)}…` : cut;
}

/** Text that is UTF-16 when every second byte is zero, Latin-1 otherwise. */
function anyText(data: Uint8Array): string {
  const wide = data.length >= 4 && data[1] === 0 && data[3] === 0;
  return printable(Buffer.from(data).toString(wide ? "utf16le" : "latin1"));
}

function versionText(data: Uint8Array): string {
  const text = anyText(data);
  return text === "" || text.includes("?") ? toHex(data.subarray(0, 64)) : JSON.stringify(text);
}

function noActionText(data: Uint8Array): string {
  const name = printable(Buffer.from(data.subarray(0, 16)).toString("latin1"));
  if (name === "StartupLocality" && data.length === 17) return `TPM started from locality ${data[16]}`;
  return name === "" ? "note" : `note ${name}`;
}

function firmwareBlobText(type: number, data: Uint8Array): string {
  const named = type === EVENT.EFI_PLATFORM_FIRMWARE_BLOB2 ? data.subarray(1, 1 + (data[0] ?? 0)) : undefined;
  const rest = named === undefined ? data : data.subarray(1 + named.length);
  const name = named === undefined ? "" : ` ${printable(Buffer.from(named).toString("latin1"))}`;
  if (rest.length !== 16) return `firmware volume${name}`;
  const buffer = Buffer.from(rest);
  return `firmware volume${name} at 0x${buffer.readBigUInt64LE(0).toString(16)}, ${buffer.readBigUInt64LE(8)} bytes`;
}

function nonHostText(data: Uint8Array): string {
  const text = printable(Buffer.from(data).toString("latin1"));
  // Google's hypervisor records here which memory encryption the guest has.
  if (text === "GCE NonHostInfo") return `confidential computing technology ${data[data.length - 16] ?? 0}`;
  return text.length > 3 && !text.includes("?") ? `platform ${text}` : "platform component";
}

function handoffText(type: number, data: Uint8Array): string {
  if (type === EVENT.EFI_HANDOFF_TABLES2) {
    return `firmware table ${printable(Buffer.from(data.subarray(1, 1 + (data[0] ?? 0))).toString("latin1"))}`;
  }
  const text = anyText(data);
  return type === EVENT.PLATFORM_CONFIG_FLAGS && text !== "" ? `configuration ${text}` : "firmware tables";
}

function separatorText(data: Uint8Array): string {
  const value = toHex(data);
  if (value === "00000000" || value === "ffffffff") return "end of firmware measurements";
  return `error reported by the firmware (${value.slice(0, 32)})`;
}

function variableWords(event: LogEvent): [Component, string] {
  const variable = readVariable(event);
  if (variable === undefined) return ["other", "UEFI variable of another form"];
  const { name, data } = variable;
  const shown = printable(name);
  if (event.type === EVENT.EFI_VARIABLE_AUTHORITY) return ["secure boot", `image verified by ${shown}`];
  if (name === "SecureBoot")
    return ["secure boot", `secure boot is ${data.length === 1 && data[0] === 1 ? "on" : "off"}`];
  if (SECURE_BOOT_VARIABLES.has(name)) {
    return [
      "secure boot",
      `secure boot variable ${shown}${data.length === 0 ? " is empty" : `, ${data.length} bytes`}`,
    ];
  }
  if (name === "BootOrder") {
    const order = Array.from({ length: data.length >> 1 }, (_, i) => data[2 * i]! + 256 * data[2 * i + 1]!);
    return ["boot variables", `boot order ${order.map((n) => n.toString(16).padStart(4, "0")).join(", ")}`];
  }
  if (/^Boot[0-9A-F]{4}$/.test(name))
    return ["boot variables", `boot entry ${shown}: ${loadOptionText(data)}`];
  return ["boot variables", `variable ${shown}`];
}

/** EFI_LOAD_OPTION: its description and the file it starts (UEFI 2.10, section 3.1.3). */
function loadOptionText(data: Uint8Array): string {
  if (data.length < 8) return "of another form";
  const pathLength = data[4]! + 256 * data[5]!;
  let end = 6;
  while (end + 1 < data.length && (data[end] !== 0 || data[end + 1] !== 0)) end += 2;
  const description = printable(Buffer.from(data.subarray(6, end)).toString("utf16le"));
  const path = devicePathText(data.subarray(end + 2, end + 2 + pathLength));
  return path === "" ? description : `${description} (${path})`;
}

/** Path of the image in an UEFI_IMAGE_LOAD_EVENT. */
function imagePath(data: Uint8Array): string {
  if (data.length < 32) return "without a path";
  const reader = new ByteReader(data, "UEFI_IMAGE_LOAD_EVENT");
  reader.skip(24);
  const length = Number(reader.u64le());
  const path = length <= reader.remaining ? devicePathText(reader.take(length)) : "";
  return path === "" ? "without a path" : printable(path);
}

function tagWords(data: Uint8Array, ascii: string): [Component, string] {
  const id = data.length >= 8 ? Buffer.from(data).readUInt32LE(0) : 0;
  const text = data.length >= 8 ? printable(Buffer.from(data.subarray(8)).toString("latin1")) : ascii;
  if (id === TAG_LOAD_OPTIONS) return ["command line", `kernel command line (${text})`];
  if (id === TAG_INITRD) return ["initrd", `initrd (${text})`];
  return ["operating system", `tagged event 0x${id.toString(16)} ${text}`];
}

function iplWords(data: Uint8Array, pcr: number): [Component, string] {
  const text = anyText(data);
  const cmdline = /^(?:grub_)?kernel_cmdline:? (.*)$/.exec(text);
  if (cmdline !== null) return ["command line", `kernel command line ${cmdline[1]}`];
  if (/^grub_cmd:? /.test(text))
    return ["boot loader", `boot loader command ${text.replace(/^grub_cmd:? /, "")}`];
  if (text.startsWith("MokList") || text === "SbatLevel" || pcr === 14)
    return ["secure boot", `shim ${text}`];
  if (/initrd|initramfs/i.test(text) && pcr === 9) return ["initrd", `initrd ${text}`];
  if (/vmlinuz|kernel|bzImage/i.test(text) && pcr === 9) return ["kernel", `kernel ${text}`];
  if (pcr === 8 || pcr === 12) return ["command line", `boot loader text ${text}`];
  return ["boot loader", text === "" ? "boot loader" : `boot loader file ${text}`];
}

/** One line on an event for a table: PCR, what it is, and its digest. */
export function eventLine(explained: ExplainedEvent): string {
  const { event, text, verified } = explained;
  const mark = verified ? "" : " [digest only]";
  return `${event.pcr} ${eventTypeName(event.type)} ${text}${mark} ${shownDigest(event)}`;
}
