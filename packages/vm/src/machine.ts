/**
 * What of the virtual machine goes into its measurements. The predictions of `@shelter/seal` and the command
 * lines here must agree on it: a machine is a function of its CPUs and memory alone, the same on every run.
 */
export const MACHINE = {
  /** Versioned, so that a newer QEMU does not move what the firmware measures. */
  type: "pc-q35-7.2",
  /** Parts nobody needs are off: fewer devices for the firmware to look at, a smaller surface for the guest. */
  options: [
    "smm=off",
    "hpet=off",
    "vmport=off",
    "i8042=off",
    "sata=off",
    "smbus=off",
    "usb=off",
    "graphics=off",
  ],
  /** The firmware's platform information (PCR 0) holds the width of physical addresses. */
  physBits: 40,
  cpu: "max,host-phys-bits=off,phys-bits=40",
  /** SEV-SNP: the launch digest holds each CPU's initial state, which depends on the model. */
  snp: { cpu: "EPYC-v4", policy: 0x30000, guestFeatures: 1 },
  tdx: { cpu: "host" },
  /** No debugging, encrypted state. Position of the C-bit and lost address bits are those of Hygon's processors. */
  csv: { cpu: "host", policy: 0x5, cbitPosition: 47, reducedPhysBits: 5 },
} as const;

/** Memory comes in whole MiB. */
export const MEMORY_UNIT: number = 1 << 20;

/** Least memory a guest boots in, firmware included. */
export const MIN_MEMORY: number = 96 << 20;
