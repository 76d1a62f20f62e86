import { ByteReader, sameBytes } from "@shelter/base";
import { CHIP_CERTIFICATE_SIZE, readSignature, SM2_SIGNATURE, USAGE } from "./certificate.ts";
import { CsvError } from "./error.ts";

/** `ATTESTATION_EXT\0`: the magic of extended reports. */
export const EXTENDED_MAGIC: Uint8Array = Buffer.from("ATTESTATION_EXT\0", "latin1");

const PAGE_SIZE = 4096;
const SIGNER_SIZE = CHIP_CERTIFICATE_SIZE + 64 + 32 + 32;
const TEE_INFO_SIZE = { 1: 0x150, 2: 0x490 } as const;
const SIGNED_SIZE = { 1: 0xb4, 2: 0x400 } as const;
const ANONCE_OFFSET = 0xbc;

/** Magic and flags as the guest's driver gives them beside the report: which form it has. */
export interface CsvWrapper {
  readonly magic: Uint8Array;
  readonly flags: number;
}

/** The guest's policy, bit by bit (the launch policy of the CSV firmware). */
export interface CsvPolicy {
  readonly raw: number;
  readonly nodbg: boolean;
  readonly noks: boolean;
  readonly es: boolean;
  readonly nosend: boolean;
  readonly domain: boolean;
  readonly csv: boolean;
  readonly csv3: boolean;
  readonly asidReuse: boolean;
  readonly hskVersion: number;
  readonly cekVersion: number;
  readonly apiMajor: number;
  readonly apiMinor: number;
}

/** What the firmware put beside the signed part: its PEK certificate, the chip's serial number, and a MAC. */
export interface CsvSigner {
  /** The PEK certificate, unmasked. */
  readonly pek: Uint8Array;
  /** Serial number of the chip, unmasked, without the zeros behind. */
  readonly serialNumber: string;
  /** Whether this part still is as the firmware gave it, so that its MAC means something. */
  readonly original: boolean;
  /** What the MAC is over, as the firmware gave it. */
  readonly macInput: Uint8Array;
  readonly mac: Uint8Array;
}

/** A CSV attestation report, unmasked, parsed once; nothing in it is believed yet. */
export interface CsvReport {
  readonly version: 1 | 2;
  /** The signed part exactly as signed: in version 1 still masked. */
  readonly signed: Uint8Array;
  readonly signature: Uint8Array | undefined;
  readonly userPubkeyDigest: Uint8Array;
  readonly vmId: Uint8Array;
  readonly vmVersion: Uint8Array;
  readonly reportData: Uint8Array;
  readonly mnonce: Uint8Array;
  readonly measure: Uint8Array;
  readonly policy: CsvPolicy;
  readonly sigUsage: number;
  readonly sigAlgo: number;
  /** The mask of version 1, four bytes as they stand. */
  readonly anonce: Uint8Array | undefined;
  /** Version 2: build of the firmware. */
  readonly build: number | undefined;
  readonly rtmrVersion: number | undefined;
  /** Version 2: RTMR0, which is the launch measurement again, to RTMR4. */
  readonly rtmrs: readonly Uint8Array[];
  /** Absent where the evidence gives the PEK elsewhere and this part is empty. */
  readonly signer: CsvSigner | undefined;
}

function refuse(why: string): never {
  throw new CsvError("CSV_REPORT_MALFORMED", `csv report: ${why}`);
}

/** Bytes with the four bytes of a mask over them, again and again. */
export function unmask(bytes: Uint8Array, mask: Uint8Array): Uint8Array {
  return bytes.map((b, i) => b ^ (mask[i % 4] ?? 0));
}

/** Decodes a policy. */
export function parseCsvPolicy(raw: number): CsvPolicy {
  const bit = (n: number): boolean => ((raw >>> n) & 1) === 1;
  return {
    raw,
    nodbg: bit(0),
    noks: bit(1),
    es: bit(2),
    nosend: bit(3),
    domain: bit(4),
    csv: bit(5),
    csv3: bit(6),
    asidReuse: bit(7),
    hskVersion: (raw >>> 8) & 15,
    cekVersion: (raw >>> 12) & 15,
    apiMajor: (raw >>> 16) & 255,
    apiMinor: raw >>> 24,
  };
}

function versionOf(bytes: Uint8Array, wrapper: CsvWrapper | undefined): 1 | 2 {
  if (wrapper !== undefined) {
    if (wrapper.magic.every((b) => b === 0)) return 1;
    if (!sameBytes(wrapper.magic, EXTENDED_MAGIC))
      refuse(`magic ${Buffer.from(wrapper.magic).toString("hex")}`);
    if (wrapper.flags === 0) return 1;
    if (wrapper.flags === 1) return 2;
    return refuse(`flags ${wrapper.flags} with ${"ATTESTATION_EXT"}, expected 0 or 1`);
  }
  // Without the wrapper, the fields that say who signed and how tell the forms apart: only version 1 masks them.
  if (bytes.byteLength < TEE_INFO_SIZE[2]) return 1;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const plain = view.getUint32(0xb4, true) === USAGE.PEK && view.getUint32(0xb8, true) === SM2_SIGNATURE;
  return plain && view.getUint32(ANONCE_OFFSET, true) !== 0 ? 2 : 1;
}

/**
 * Parses a report: as long as its fields, or padded with zeros to the page the driver gives. Version 1 without
 * the signer part (Trustee's older form) is 336 bytes.
 */
export function parseCsvReport(bytes: Uint8Array, wrapper?: CsvWrapper): CsvReport {
  const version = versionOf(bytes, wrapper);
  const bare = TEE_INFO_SIZE[version];
  const whole = bare + SIGNER_SIZE;
  if (bytes.byteLength !== whole && bytes.byteLength !== PAGE_SIZE && bytes.byteLength !== bare) {
    refuse(`${bytes.byteLength} bytes, version ${version} has ${whole} or ${PAGE_SIZE}`);
  }
  const reader = new ByteReader(bytes, "csv report");
  const mask = version === 1 ? Uint8Array.from(bytes.subarray(ANONCE_OFFSET, ANONCE_OFFSET + 4)) : undefined;
  const take = (count: number): Uint8Array => {
    const part = reader.take(count);
    return mask === undefined ? part : unmask(part, mask);
  };
  const number = (): number => new ByteReader(take(4), "csv report").u32le();
  const fields = {
    userPubkeyDigest: take(32),
    vmId: take(16),
    vmVersion: take(16),
    reportData: take(64),
    mnonce: take(16),
    measure: take(32),
    policy: parseCsvPolicy(number()),
    sigUsage: number(),
    sigAlgo: number(),
  };
  const extended = version === 1 ? skipAnonce(reader) : readExtension(reader);
  const signed = bytes.subarray(0, SIGNED_SIZE[version]);
  const signature = readSignature(reader);
  const signer = reader.remaining === 0 ? undefined : readSigner(reader, mask);
  if (reader.take(reader.remaining).some((b) => b !== 0)) refuse("bytes other than zero behind its end");
  return { version, signed, signature, ...fields, anonce: mask, ...extended, signer };
}

type Extension = Pick<CsvReport, "build" | "rtmrVersion" | "rtmrs">;

function skipAnonce(reader: ByteReader): Extension {
  reader.skip(4);
  return { build: undefined, rtmrVersion: undefined, rtmrs: [] };
}

function readExtension(reader: ByteReader): Extension {
  const build = reader.u32le();
  const rtmrVersion = reader.u16le();
  reader.skip(14);
  const rtmrs = Array.from({ length: 5 }, () => reader.take(32));
  reader.skip(656);
  return { build, rtmrVersion, rtmrs };
}

function readSigner(reader: ByteReader, mask: Uint8Array | undefined): CsvSigner | undefined {
  const part = reader.take(SIGNER_SIZE);
  if (part.every((b) => b === 0)) return undefined;
  const inner = new ByteReader(part, "csv report signer");
  const pek = inner.take(CHIP_CERTIFICATE_SIZE);
  const sn = inner.take(64);
  const macInput = part.subarray(0, CHIP_CERTIFICATE_SIZE + 64 + 32);
  inner.skip(32);
  const mac = inner.take(32);
  // The guest's library unmasks this part in place: a certificate version that reads as such without the mask
  // has lost it. Its MAC, which was over the masked bytes, can then not be checked any more.
  const original =
    mask === undefined || !looksLikeCertificate(pek) || looksLikeCertificate(unmask(pek, mask));
  const clear = (bytes: Uint8Array): Uint8Array =>
    mask !== undefined && original ? unmask(bytes, mask) : bytes;
  return { pek: clear(pek), serialNumber: readSerialNumber(clear(sn)), original, macInput, mac };
}

/** Certificates have version 1 or 2 and the PEK's usage: eight bytes that a mask would have changed. */
function looksLikeCertificate(bytes: Uint8Array): boolean {
  const reader = new ByteReader(bytes, "pek");
  const version = reader.u32le();
  reader.skip(4);
  return version >= 1 && version <= 2 && reader.u32le() === USAGE.PEK;
}

/** A serial number: printable ASCII, zeros behind. */
export function readSerialNumber(bytes: Uint8Array): string {
  const text = Buffer.from(bytes).toString("latin1").replace(/\0+$/, "");
  if (!/^[\x20-\x7e]*$/.test(text)) refuse("the serial number is not printable");
  return text;
}
