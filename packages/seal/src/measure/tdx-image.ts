import { toHex } from "@shelter/base";
import { type AcpiFiles, mrTd, type TdxEvent, type TdxRegisters, tdxEvents, tdxRegisters } from "./tdx.ts";
import { readTdxFirmware } from "./tdx-firmware.ts";

/** The machine TDX measurements are predicted for. */
export interface TdxMachine {
  /** Bytes of the firmware, an OVMF with TDX metadata. */
  readonly firmware: Uint8Array;
  /** Bytes. */
  readonly memory: number;
  /** As this machine's QEMU writes them; RTMR0 is known only with them. */
  readonly acpi?: AcpiFiles;
}

/** What a TDX quote will say, and the events that lead there. */
export interface TdxPrediction {
  readonly platform: "tdx";
  readonly memory: number;
  /** Hex, by the order in which the VMM adds pages. */
  readonly mrtd: { readonly pageByPage: string; readonly sectionBySection: string };
  readonly registers: TdxRegisters;
  readonly events: readonly TdxEvent[];
}

/** Predicts MRTD and RTMRs of a kernel, initrd and command line under this machine. */
export function predictTdx(
  image: { readonly kernel: Uint8Array; readonly initrd: Uint8Array; readonly cmdline: string },
  machine: TdxMachine,
): TdxPrediction {
  const firmware = readTdxFirmware(machine.firmware);
  const { memory, acpi } = machine;
  const events = tdxEvents({ ...image, firmware, memory, ...(acpi === undefined ? {} : { acpi }) });
  return {
    platform: "tdx",
    memory,
    mrtd: {
      pageByPage: toHex(mrTd(firmware, "page-by-page")),
      sectionBySection: toHex(mrTd(firmware, "section-by-section")),
    },
    registers: tdxRegisters(events),
    events,
  };
}
