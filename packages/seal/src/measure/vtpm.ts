import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fromHex, hexOf } from "@shelter/base";
import { SealError } from "../errors.ts";
import { readRecord } from "../store/store.ts";
import { authenticodeDigest, kernelFromQemu } from "./kernel-image.ts";
import type { MeasureRequest, PredictedEvent, Processor, VtpmMeasurement } from "./measurement.ts";
import { DEFAULT_FIRMWARE, type Firmware, readFirmware } from "./ovmf.ts";
import { platformInfo } from "./platform-info.ts";

/**
 * The processors a guest of `@shelter/vm` may have: emulation and AMD hosts show the first, Intel hosts with KVM the
 * second, whose address width the firmware does not believe.
 */
export const PROCESSORS: readonly [Processor, ...Processor[]] = [
  { physBits: 40, vendor: "AuthenticAMD" },
  { physBits: 40, vendor: "GenuineIntel" },
];

const GLOBAL = "61dfe48bca93d211aa0d00e098032b8c"; // EFI_GLOBAL_VARIABLE, mixed endian
const SECURITY = "cbb219d73a3d9645a3bcdad00e67656f"; // EFI_IMAGE_SECURITY_DATABASE
/** EFI_LOAD_OPTION: active, "UiApp", the application inside the firmware's DXE volume. */
const BOOT0000 =
  "090100002c0055006900410070007000000004071400c9bdb87cebf8344faaea3ee4af6516a1" +
  "0406140021aa2c4614760345836e8ab6f46623317fff0400";

const sha256 = (...parts: readonly Uint8Array[]): string => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
};

/**
 * What a boot through OVMF measures into a TPM's SHA-256 bank (TCG PC Client Platform Firmware Profile 1.05;
 * the events of PCR 9 by the kernel's EFI stub, drivers/firmware/efi/libstub), in order.
 */
export async function measureVtpm(request: MeasureRequest): Promise<VtpmMeasurement> {
  const { cpus, memory, imageDirectory } = request;
  if (
    !Number.isSafeInteger(cpus) ||
    cpus < 1 ||
    cpus > 255 ||
    !Number.isSafeInteger(memory) ||
    memory < 2 ** 20
  ) {
    throw new SealError(
      "SHAPE_UNSUPPORTED",
      "usage",
      `no predictions for ${cpus} CPUs and ${memory} bytes of memory`,
    );
  }
  const record = readRecord(imageDirectory);
  const initrd = record.files.initrd;
  if (initrd === undefined)
    throw new SealError("IMAGE_DAMAGED", "malformed", `${imageDirectory} lists no initrd`);
  const firmware = await readFirmware(request.firmware ?? DEFAULT_FIRMWARE);
  const shape = { cpus, memory };
  const pei = peiInMemory(firmware, platformInfo(shape, request.processor ?? PROCESSORS[0]));
  const kernel = readFileSync(join(imageDirectory, "kernel"));

  const events: PredictedEvent[] = [];
  type Component = PredictedEvent["component"];
  const event = (
    pcr: number,
    type: string,
    component: Component,
    description: string,
    digest: string,
  ): void => void events.push({ pcr, type, component, description, digest });
  const variable = (
    pcr: number,
    type: string,
    guid: string,
    name: string,
    data: Uint8Array,
    what: string,
  ): void =>
    type === "EV_EFI_VARIABLE_BOOT"
      ? event(pcr, type, "boot", what, sha256(data))
      : event(pcr, type, "secure boot", what, sha256(variableData(guid, name, data)));
  const separator = (pcr: number): void =>
    event(pcr, "EV_SEPARATOR", "boot", "end of the firmware's own part", sha256(Buffer.alloc(4)));
  const action = (pcr: number, text: string): void =>
    event(pcr, "EV_EFI_ACTION", "boot", text, sha256(Buffer.from(text)));

  event(
    0,
    "EV_S_CRTM_VERSION",
    "firmware",
    "version of the firmware's root of trust (empty)",
    sha256(Buffer.alloc(2)),
  );
  event(
    0,
    "EV_EFI_PLATFORM_FIRMWARE_BLOB",
    "machine",
    `PEI volume of ${firmware.name}, with what it knows of the machine`,
    sha256(pei),
  );
  event(0, "EV_EFI_PLATFORM_FIRMWARE_BLOB", "firmware", `DXE volume of ${firmware.name}`, firmware.dxeDigest);
  const config = "EV_EFI_VARIABLE_DRIVER_CONFIG";
  const none = new Uint8Array();
  variable(7, config, GLOBAL, "SecureBoot", Buffer.of(0), "secure boot: off");
  variable(7, config, GLOBAL, "PK", none, "secure boot platform key: none");
  variable(7, config, GLOBAL, "KEK", none, "secure boot key exchange keys: none");
  variable(7, config, SECURITY, "db", none, "secure boot signatures allowed: none");
  variable(7, config, SECURITY, "dbx", none, "secure boot signatures forbidden: none");
  separator(7);
  event(
    4,
    "EV_EFI_BOOT_SERVICES_APPLICATION",
    "kernel",
    `kernel ${record.guest.kernelVersion}, with the initrd's place and size in its header`,
    authenticodeDigest(kernelFromQemu(kernel, initrd.size, memory)),
  );
  const boot = "EV_EFI_VARIABLE_BOOT";
  variable(1, boot, GLOBAL, "BootOrder", Buffer.of(0, 0), "boot order: Boot0000");
  variable(1, boot, GLOBAL, "Boot0000", fromHex(BOOT0000), "Boot0000: the firmware's own menu");
  action(4, "Calling EFI Application from Boot Option");
  for (let pcr = 0; pcr <= 6; pcr++) separator(pcr);
  // X86QemuLoadImageLib appends this where there is an initrd.
  const options = Buffer.from(`${record.cmdline} initrd=initrd\0`, "utf16le");
  event(9, "EV_EVENT_TAG", "command line", `command line: ${record.cmdline} initrd=initrd`, sha256(options));
  event(9, "EV_EVENT_TAG", "initrd", "initrd", hexOf(initrd.digest));
  action(5, "Exit Boot Services Invocation");
  action(5, "Exit Boot Services Returned with Success");
  return { platform: "vtpm", shape, pcrs: replay(events), events };
}

/**
 * The machine for which the firmware's PEI volume has this digest, of the given memory and up to so many vCPUs;
 * undefined when there is none: then it is other firmware, or other memory.
 */
export async function vtpmMachine(
  firmwareFile: string | undefined,
  memory: number,
  maximumCpus: number,
  digest: string,
): Promise<{ readonly cpus: number; readonly processor: Processor } | undefined> {
  const firmware = await readFirmware(firmwareFile ?? DEFAULT_FIRMWARE);
  for (const processor of PROCESSORS) {
    for (let cpus = 1; cpus <= maximumCpus; cpus++) {
      if (sha256(peiInMemory(firmware, platformInfo({ cpus, memory }, processor))) === digest) {
        return { cpus, processor };
      }
    }
  }
  return undefined;
}

/** UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile, 10.2.6). */
function variableData(guid: string, name: string, data: Uint8Array): Uint8Array {
  const head = Buffer.alloc(32);
  head.set(fromHex(guid));
  head.writeBigUInt64LE(BigInt(name.length), 16);
  head.writeBigUInt64LE(BigInt(data.byteLength), 24);
  return Buffer.concat([head, Buffer.from(name, "utf16le"), data]);
}

function peiInMemory({ pei, peiLayout }: Firmware, info: Uint8Array): Uint8Array {
  const bytes = Uint8Array.from(pei);
  bytes.set(info, peiLayout.platformInfo);
  for (const flag of peiLayout.flags) bytes[flag] = 1;
  return bytes;
}

/** The registers after these events: each is the hash of what it was and the event's digest. */
export function replay(events: readonly PredictedEvent[]): { [pcr: string]: string } {
  const pcrs = new Map<number, string>();
  for (const { pcr, digest } of events) {
    pcrs.set(pcr, sha256(fromHex(pcrs.get(pcr) ?? "00".repeat(32)), fromHex(digest)));
  }
  return Object.fromEntries([...pcrs].sort(([a], [b]) => a - b).map(([pcr, value]) => [String(pcr), value]));
}
