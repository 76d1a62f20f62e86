import { toHex } from "@shelter/base";
import type { SnpProduct } from "./product.ts";

/** Security version numbers of the parts of a platform's TCB (SEV-SNP ABI specification, TCB_VERSION). */
export interface SnpTcb {
  /** Firmware of the security co-processor's own boot; Turin and later only. */
  readonly fmc?: number;
  readonly bootloader: number;
  readonly tee: number;
  readonly snp: number;
  readonly microcode: number;
}

type Part = "fmc" | "bootloader" | "tee" | "snp" | "microcode";

const LAYOUT: Readonly<Record<"older" | "turin", readonly (Part | undefined)[]>> = {
  older: ["bootloader", "tee", undefined, undefined, undefined, undefined, "snp", "microcode"],
  turin: ["fmc", "bootloader", "tee", "snp", undefined, undefined, undefined, "microcode"],
};

/** The parts of a product's TCB in the order they are compared and printed. */
export function tcbParts(product: SnpProduct): readonly Part[] {
  return LAYOUT[product === "Turin" ? "turin" : "older"].filter((p) => p !== undefined);
}

/** Reads a TCB_VERSION; undefined when a reserved byte is set. */
export function decodeTcb(bytes: Uint8Array, product: SnpProduct): SnpTcb | undefined {
  const layout = LAYOUT[product === "Turin" ? "turin" : "older"];
  const tcb = { bootloader: 0, tee: 0, snp: 0, microcode: 0 } as Record<Part, number>;
  for (const [i, part] of layout.entries()) {
    const value = bytes[i] ?? 0;
    if (part !== undefined) tcb[part] = value;
    else if (value !== 0) return undefined;
  }
  return tcb;
}

/** Whether no part of `a` is above that part of `b`. */
export function tcbAtMost(a: SnpTcb, b: SnpTcb): boolean {
  return (
    (a.fmc ?? 0) <= (b.fmc ?? 0) &&
    a.bootloader <= b.bootloader &&
    a.tee <= b.tee &&
    a.snp <= b.snp &&
    a.microcode <= b.microcode
  );
}

/** A TCB in words: `bootloader 4, tee 0, snp 24, microcode 219`. */
export function tcbText(tcb: SnpTcb | undefined, raw: Uint8Array): string {
  if (tcb === undefined) return toHex(raw);
  const fmc = tcb.fmc === undefined ? "" : `fmc ${tcb.fmc}, `;
  return `${fmc}bootloader ${tcb.bootloader}, tee ${tcb.tee}, snp ${tcb.snp}, microcode ${tcb.microcode}`;
}
