import { ByteReader } from "@shelter/base";

/** Sizes of the two forms of a TD's report body (Intel TDX DCAP Quoting Library API, A.3.2 and A.3.3). */
export const TD_REPORT_SIZE = { td10: 584, td15: 648 } as const;

/** A report of a trust domain. Byte members are views. */
export interface TdReport {
  readonly bytes: Uint8Array;
  readonly teeTcbSvn: Uint8Array;
  readonly mrSeam: Uint8Array;
  readonly mrSignerSeam: Uint8Array;
  readonly seamAttributes: Uint8Array;
  readonly tdAttributes: Uint8Array;
  readonly xfam: Uint8Array;
  readonly mrTd: Uint8Array;
  readonly mrConfigId: Uint8Array;
  readonly mrOwner: Uint8Array;
  readonly mrOwnerConfig: Uint8Array;
  readonly rtmrs: readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array];
  readonly reportData: Uint8Array;
  /** TD 1.5 only. */
  readonly teeTcbSvn2?: Uint8Array;
  readonly mrServiceTd?: Uint8Array;
}

/** Bits of TDATTRIBUTES (Intel TDX module ABI, TD_PARAMS.ATTRIBUTES). */
export interface TdAttributes {
  readonly debug: boolean;
  /** Any of the bits 7:0: the TD runs under debug or is profiled, its secrets are not safe. */
  readonly underDebug: boolean;
  readonly septVeDisable: boolean;
  readonly migratable: boolean;
  readonly pks: boolean;
  readonly kl: boolean;
  readonly lass: boolean;
  readonly tpa: boolean;
  readonly perfmon: boolean;
  /** Bits without a meaning known here. */
  readonly reserved: bigint;
}

/** Parses a TD report body of one of its two sizes. */
export function parseTdReport(bytes: Uint8Array): TdReport {
  const r = new ByteReader(bytes, "td report");
  const head = {
    bytes,
    teeTcbSvn: r.take(16),
    mrSeam: r.take(48),
    mrSignerSeam: r.take(48),
    seamAttributes: r.take(8),
    tdAttributes: r.take(8),
    xfam: r.take(8),
    mrTd: r.take(48),
    mrConfigId: r.take(48),
    mrOwner: r.take(48),
    mrOwnerConfig: r.take(48),
    rtmrs: [r.take(48), r.take(48), r.take(48), r.take(48)] as const,
    reportData: r.take(64),
  };
  if (r.remaining === 0) return head;
  const report = { ...head, teeTcbSvn2: r.take(16), mrServiceTd: r.take(48) };
  r.end();
  return report;
}

const KNOWN_ATTRIBUTES =
  0xffn | // TUD
  (1n << 16n) | // ICSSD
  (0x1fn << 27n) | // LASS, SEPT_VE_DISABLE, MIGRATABLE, PKS, KL
  (3n << 62n); // TPA, PERFMON

/** Decodes TDATTRIBUTES. */
export function tdAttributes(bytes: Uint8Array): TdAttributes {
  const value = new ByteReader(bytes, "td attributes").u64le();
  const bit = (n: bigint): boolean => ((value >> n) & 1n) === 1n;
  return {
    debug: bit(0n),
    underDebug: (value & 0xffn) !== 0n,
    septVeDisable: bit(28n),
    migratable: bit(29n),
    pks: bit(30n),
    kl: bit(31n),
    lass: bit(27n),
    tpa: bit(62n),
    perfmon: bit(63n),
    reserved: value & ~KNOWN_ATTRIBUTES,
  };
}
