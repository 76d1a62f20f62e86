/** Which virtual machine monitor sets up the processors. */
export type Vmm = "qemu" | "ec2" | "gce";

/** CPUID signature (Fn0000_0001_EAX) of QEMU's processor models, which it puts into RDX at reset. */
export const CPU_SIGNATURES: Readonly<Record<string, number>> = {
  EPYC: signature(23, 1, 2),
  "EPYC-v1": signature(23, 1, 2),
  "EPYC-v2": signature(23, 1, 2),
  "EPYC-IBPB": signature(23, 1, 2),
  "EPYC-v3": signature(23, 1, 2),
  "EPYC-v4": signature(23, 1, 2),
  "EPYC-Rome": signature(23, 49, 0),
  "EPYC-Rome-v1": signature(23, 49, 0),
  "EPYC-Rome-v2": signature(23, 49, 0),
  "EPYC-Rome-v3": signature(23, 49, 0),
  "EPYC-Milan": signature(25, 1, 1),
  "EPYC-Milan-v1": signature(25, 1, 1),
  "EPYC-Milan-v2": signature(25, 1, 1),
  "EPYC-Genoa": signature(25, 17, 0),
  "EPYC-Genoa-v1": signature(25, 17, 0),
  "EPYC-Turin": signature(26, 0, 0),
  "EPYC-Turin-v1": signature(26, 0, 0),
};

function signature(family: number, model: number, stepping: number): number {
  return (((family - 0xf) << 20) | ((model >> 4) << 16) | (0xf << 8) | ((model & 0xf) << 4) | stepping) >>> 0;
}

/** Where the first processor starts. */
export const RESET_VECTOR = 0xfffffff0;

interface Segment {
  readonly selector: number;
  readonly attrib: number;
  readonly limit: number;
  readonly base: number;
}

interface InitialState {
  readonly segments: readonly Segment[];
  readonly cr0: number;
  readonly rip: number;
  readonly gPat: bigint;
  readonly rdx: number;
  readonly mxcsr: number;
  readonly fcw: number;
}

/** Offsets in the save area (AMD64 Architecture Programmer's Manual volume 2, table B-4). */
const AT = {
  efer: 0xd0,
  cr4: 0x148,
  cr0: 0x158,
  dr7: 0x160,
  dr6: 0x168,
  rflags: 0x170,
  rip: 0x178,
  gPat: 0x268,
  rdx: 0x310,
  sevFeatures: 0x3b0,
  xcr0: 0x3e8,
  mxcsr: 0x408,
  fcw: 0x410,
} as const;

function page(state: InitialState, features: bigint): Uint8Array {
  const bytes = Buffer.alloc(4096);
  for (const [i, s] of state.segments.entries()) {
    bytes.writeUInt16LE(s.selector, i * 16);
    bytes.writeUInt16LE(s.attrib, i * 16 + 2);
    bytes.writeUInt32LE(s.limit, i * 16 + 4);
    bytes.writeBigUInt64LE(BigInt(s.base), i * 16 + 8);
  }
  const u64 = (offset: number, value: bigint | number): void =>
    void bytes.writeBigUInt64LE(BigInt(value), offset);
  u64(AT.efer, 0x1000); // KVM sets SVME
  u64(AT.cr4, 0x40); // and MCE
  u64(AT.cr0, state.cr0);
  u64(AT.dr7, 0x400);
  u64(AT.dr6, 0xffff0ff0);
  u64(AT.rflags, 2);
  u64(AT.rip, state.rip);
  u64(AT.gPat, state.gPat);
  u64(AT.rdx, state.rdx);
  u64(AT.sevFeatures, features);
  u64(AT.xcr0, 1);
  bytes.writeUInt32LE(state.mxcsr, AT.mxcsr);
  bytes.writeUInt16LE(state.fcw, AT.fcw);
  return bytes;
}

const PAT_RESET = 0x0007040600070406n;
const PAT_GCE = 0x0000000000070106n;
const RDX_RESET = 0x600;

/**
 * The save area a processor starts from at `eip`, as the monitor hands it to be measured. The
 * monitors differ in segment attributes, and in what they leave in RDX and the floating point unit.
 */
export function vmsaPage(vmm: Vmm, eip: number, cpuSignature: number, features: bigint): Uint8Array {
  const start = eip === RESET_VECTOR;
  const ec2 = vmm === "ec2";
  const qemu = vmm === "qemu";
  const data: Segment = { selector: 0, attrib: 0x93, limit: 0xffff, base: 0 };
  const table: Segment = { selector: 0, attrib: 0, limit: 0xffff, base: 0 };
  const code = {
    selector: 0xf000,
    attrib: ec2 && start ? 0x9a : 0x9b,
    limit: 0xffff,
    base: (eip & 0xffff0000) >>> 0,
  };
  const stack = ec2 ? { ...data, attrib: 0x92 } : data;
  const task = { ...table, attrib: ec2 ? 0x83 : 0x8b };
  // es cs ss ds fs gs gdtr ldtr idtr tr
  const segments = [data, code, stack, data, data, data, table, { ...table, attrib: 0x82 }, table, task];
  return page(
    {
      segments,
      cr0: 0x10,
      rip: eip & 0xffff,
      gPat: vmm === "gce" ? PAT_GCE : PAT_RESET,
      rdx: qemu ? cpuSignature : RDX_RESET,
      mxcsr: qemu ? 0x1f80 : 0,
      fcw: qemu ? 0x37f : 0,
    },
    features,
  );
}

/** The save area of a processor that starts in an SVSM: 32-bit protected mode, flat segments. */
export function svsmVmsaPage(eip: number, cpuSignature: number): Uint8Array {
  const flat: Segment = { selector: 16, attrib: 0xc93, limit: 0xffffffff, base: 0 };
  const table: Segment = { selector: 0, attrib: 0, limit: 0xffff, base: 0 };
  const code = { ...flat, selector: 8, attrib: 0xc9b };
  const gs = { ...table, attrib: 0x93 };
  const segments = [
    flat,
    code,
    flat,
    flat,
    flat,
    gs,
    table,
    { ...table, attrib: 0x82 },
    table,
    { ...table, attrib: 0x8b },
  ];
  const state = { segments, cr0: 0x11, rip: eip, gPat: PAT_RESET, rdx: cpuSignature, mxcsr: 0x1f80, fcw: 0 };
  return page(state, 1n);
}
