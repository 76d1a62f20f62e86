import { ByteReader } from "@shelter/base";
import { SnpError } from "./error.ts";

/** Size of an ATTESTATION_REPORT (SEV-SNP ABI specification, table 23). */
export const SNP_REPORT_SIZE = 1184;

/** How much of a report its signature covers. */
export const SNP_SIGNED_SIZE = 0x2a0;

/** Which key signed: the chip's own, the operator's loaded one, or none. */
export type SnpSigningKey = "VCEK" | "VLEK" | "none";

/** The guest policy (SEV-SNP ABI specification, "Guest Policy"). */
export interface SnpPolicy {
  readonly raw: bigint;
  readonly abiMinor: number;
  readonly abiMajor: number;
  readonly smt: boolean;
  readonly migrateMa: boolean;
  readonly debug: boolean;
  readonly singleSocket: boolean;
  readonly cxlAllow: boolean;
  readonly memAes256Xts: boolean;
  readonly raplDis: boolean;
  readonly ciphertextHiding: boolean;
  readonly pageSwapDisable: boolean;
}

/** PLATFORM_INFO of a report. */
export interface SnpPlatformInfo {
  readonly raw: bigint;
  readonly smtEn: boolean;
  readonly tsmeEn: boolean;
  readonly eccEn: boolean;
  readonly raplDis: boolean;
  readonly ciphertextHidingDramEn: boolean;
  readonly aliasCheckComplete: boolean;
  readonly tioEn: boolean;
}

/** Version of the SNP firmware. */
export interface SnpFirmware {
  readonly major: number;
  readonly minor: number;
  readonly build: number;
}

/** A parsed report, its members named as the standard names them. Byte members are views. */
export interface SnpReport {
  readonly bytes: Uint8Array;
  readonly version: number;
  readonly guestSvn: number;
  readonly policy: SnpPolicy;
  readonly familyId: Uint8Array;
  readonly imageId: Uint8Array;
  readonly vmpl: number;
  readonly signatureAlgo: number;
  readonly currentTcb: Uint8Array;
  readonly platformInfo: SnpPlatformInfo;
  readonly authorKeyEn: boolean;
  readonly maskChipKey: boolean;
  readonly signingKey: SnpSigningKey;
  readonly reportData: Uint8Array;
  readonly measurement: Uint8Array;
  readonly hostData: Uint8Array;
  readonly idKeyDigest: Uint8Array;
  readonly authorKeyDigest: Uint8Array;
  readonly reportId: Uint8Array;
  readonly reportIdMa: Uint8Array;
  readonly reportedTcb: Uint8Array;
  /** From version 3. */
  readonly cpuid?: { readonly family: number; readonly model: number; readonly stepping: number };
  readonly chipId: Uint8Array;
  readonly committedTcb: Uint8Array;
  readonly current: SnpFirmware;
  readonly committed: SnpFirmware;
  readonly launchTcb: Uint8Array;
  /** From version 5. */
  readonly launchMitVector?: bigint;
  readonly currentMitVector?: bigint;
  /** r and s, big-endian, 48 bytes each: what node:crypto calls ieee-p1363. */
  readonly signature: Uint8Array;
}

/** VMPL of a report the hypervisor asked for (SNP_HV_REPORT_REQ). */
export const VMPL_HOST = 0xffffffff;

const POLICY_RESERVED_ONE = 1n << 17n;
const POLICY_KNOWN = (1n << 26n) - 1n;

function bad(message: string): SnpError {
  return new SnpError("SNP_REPORT_MALFORMED", message);
}

function zero(bytes: Uint8Array, name: string): void {
  if (bytes.some((b) => b !== 0)) throw bad(`snp report: reserved bytes ${name} are not zero`);
}

/** Reads a guest policy; reserved bits must be as the standard wants them. */
export function parseSnpPolicy(raw: bigint): SnpPolicy {
  if ((raw & POLICY_RESERVED_ONE) === 0n) throw bad(`snp policy 0x${raw.toString(16)}: bit 17 must be one`);
  if ((raw & ~POLICY_KNOWN) !== 0n) throw bad(`snp policy 0x${raw.toString(16)}: reserved bits are set`);
  const bit = (n: bigint): boolean => ((raw >> n) & 1n) === 1n;
  return {
    raw,
    abiMinor: Number(raw & 0xffn),
    abiMajor: Number((raw >> 8n) & 0xffn),
    smt: bit(16n),
    migrateMa: bit(18n),
    debug: bit(19n),
    singleSocket: bit(20n),
    cxlAllow: bit(21n),
    memAes256Xts: bit(22n),
    raplDis: bit(23n),
    ciphertextHiding: bit(24n),
    pageSwapDisable: bit(25n),
  };
}

// Bits past these are left alone: firmware sets new ones before the standard is published (Turin sets bit 6).
function parsePlatformInfo(raw: bigint): SnpPlatformInfo {
  const bit = (n: bigint): boolean => ((raw >> n) & 1n) === 1n;
  return {
    raw,
    smtEn: bit(0n),
    tsmeEn: bit(1n),
    eccEn: bit(2n),
    raplDis: bit(3n),
    ciphertextHidingDramEn: bit(4n),
    aliasCheckComplete: bit(5n),
    tioEn: bit(7n),
  };
}

function parseFirmware(r: ByteReader): SnpFirmware {
  const build = r.u8();
  const minor = r.u8();
  const major = r.u8();
  zero(r.take(1), "behind the firmware version");
  return { major, minor, build };
}

/** One 72-byte little-endian number of the signature as 48 bytes big-endian. */
function signaturePart(r: ByteReader, name: string): Uint8Array {
  const field = r.take(72);
  zero(field.subarray(48), `of signature ${name}`);
  return Uint8Array.from(field.subarray(0, 48)).reverse();
}

/** Parses a report of version 2 to 5. Exactly 1184 bytes; reserved bytes must be zero. */
export function parseSnpReport(bytes: Uint8Array): SnpReport {
  if (bytes.byteLength !== SNP_REPORT_SIZE) {
    throw bad(`snp report: expected ${SNP_REPORT_SIZE} bytes, have ${bytes.byteLength}`);
  }
  const r = new ByteReader(bytes, "snp report");
  const version = r.u32le();
  if (version < 2 || version > 5) throw bad(`snp report: version ${version} is none of 2 to 5`);
  const guestSvn = r.u32le();
  const policy = parseSnpPolicy(r.u64le());
  const familyId = r.take(16);
  const imageId = r.take(16);
  const vmpl = r.u32le();
  if (vmpl > 3 && vmpl !== VMPL_HOST) throw bad(`snp report: vmpl ${vmpl} does not exist`);
  const signatureAlgo = r.u32le();
  const currentTcb = r.take(8);
  const platformInfo = parsePlatformInfo(r.u64le());
  const flags = r.u32le();
  if (flags >>> 5 !== 0) throw bad(`snp report: reserved flags 0x${flags.toString(16)} are set`);
  const key = (flags >> 2) & 7;
  const signingKey = key === 0 ? "VCEK" : key === 1 ? "VLEK" : key === 7 ? "none" : undefined;
  if (signingKey === undefined) throw bad(`snp report: signing key ${key} does not exist`);
  zero(r.take(4), "behind the flags");
  const reportData = r.take(64);
  const measurement = r.take(48);
  const hostData = r.take(32);
  const idKeyDigest = r.take(48);
  const authorKeyDigest = r.take(48);
  const reportId = r.take(32);
  const reportIdMa = r.take(32);
  const reportedTcb = r.take(8);
  const cpuidBytes = r.take(3);
  if (version < 3) zero(cpuidBytes, "behind the reported tcb");
  const [family = 0, model = 0, stepping = 0] = cpuidBytes;
  zero(r.take(21), "behind the cpuid");
  const chipId = r.take(64);
  const committedTcb = r.take(8);
  const current = parseFirmware(r);
  const committed = parseFirmware(r);
  const launchTcb = r.take(8);
  let mitigations = {};
  if (version >= 5) mitigations = { launchMitVector: r.u64le(), currentMitVector: r.u64le() };
  zero(r.take(SNP_SIGNED_SIZE - r.offset), "before the signature");
  const signature = new Uint8Array(96);
  signature.set(signaturePart(r, "r"));
  signature.set(signaturePart(r, "s"), 48);
  zero(r.take(368), "behind the signature");
  r.end();
  return {
    bytes,
    version,
    guestSvn,
    policy,
    familyId,
    imageId,
    vmpl,
    signatureAlgo,
    currentTcb,
    platformInfo,
    authorKeyEn: (flags & 1) !== 0,
    maskChipKey: (flags & 2) !== 0,
    signingKey,
    reportData,
    measurement,
    hostData,
    idKeyDigest,
    authorKeyDigest,
    reportId,
    reportIdMa,
    reportedTcb,
    ...(version >= 3 ? { cpuid: { family, model, stepping } } : {}),
    chipId,
    committedTcb,
    current,
    committed,
    launchTcb,
    ...mitigations,
    signature,
  };
}

/** The part of a report that is signed. */
export function signedBytes(report: SnpReport): Uint8Array {
  return report.bytes.subarray(0, SNP_SIGNED_SIZE);
}

/** The firmware version in words: `1.55.49`, build last. */
export function firmwareText(f: SnpFirmware): string {
  return `${f.major}.${f.minor}.${f.build}`;
}
