import { ByteReader, toHex } from "@shelter/base";
import { hashById, hashSize, type TpmHash } from "../tpm/algorithm.ts";
import { EventLogError } from "./error.ts";

/** One event of a log. */
export interface LogEvent {
  /** Position in the log, from 0. */
  readonly index: number;
  /** PCR, or measurement register in a confidential computing log (CCEL). */
  readonly pcr: number;
  readonly type: number;
  readonly digests: ReadonlyMap<TpmHash, Uint8Array>;
  readonly data: Uint8Array;
}

/** A parsed log: legacy (one SHA-1 per event) or crypto-agile (TCG PC Client Platform Firmware Profile, section 10). */
export interface EventLog {
  readonly format: "sha1" | "crypto-agile";
  /** Banks the log has digests of. */
  readonly banks: readonly TpmHash[];
  /** Without the header event of the crypto-agile form. */
  readonly events: readonly LogEvent[];
  /** Bytes before the padding of a log in an ACPI table. */
  readonly parsedBytes: number;
  /** Locality the TPM was started from, which is PCR 0's first value; 0 unless an event says otherwise. */
  readonly startupLocality: number;
}

/** Event types by number (TCG PC Client Platform Firmware Profile, table 27). */
export const EVENT = {
  PREBOOT_CERT: 0x0,
  POST_CODE: 0x1,
  NO_ACTION: 0x3,
  SEPARATOR: 0x4,
  ACTION: 0x5,
  EVENT_TAG: 0x6,
  S_CRTM_CONTENTS: 0x7,
  S_CRTM_VERSION: 0x8,
  CPU_MICROCODE: 0x9,
  PLATFORM_CONFIG_FLAGS: 0xa,
  TABLE_OF_DEVICES: 0xb,
  COMPACT_HASH: 0xc,
  IPL: 0xd,
  IPL_PARTITION_DATA: 0xe,
  NONHOST_CODE: 0xf,
  NONHOST_CONFIG: 0x10,
  NONHOST_INFO: 0x11,
  OMIT_BOOT_DEVICE_EVENTS: 0x12,
  POST_CODE2: 0x13,
  EFI_VARIABLE_DRIVER_CONFIG: 0x80000001,
  EFI_VARIABLE_BOOT: 0x80000002,
  EFI_BOOT_SERVICES_APPLICATION: 0x80000003,
  EFI_BOOT_SERVICES_DRIVER: 0x80000004,
  EFI_RUNTIME_SERVICES_DRIVER: 0x80000005,
  EFI_GPT_EVENT: 0x80000006,
  EFI_ACTION: 0x80000007,
  EFI_PLATFORM_FIRMWARE_BLOB: 0x80000008,
  EFI_HANDOFF_TABLES: 0x80000009,
  EFI_PLATFORM_FIRMWARE_BLOB2: 0x8000000a,
  EFI_HANDOFF_TABLES2: 0x8000000b,
  EFI_VARIABLE_BOOT2: 0x8000000c,
  EFI_GPT_EVENT2: 0x8000000d,
  EFI_HCRTM_EVENT: 0x80000010,
  EFI_VARIABLE_AUTHORITY: 0x800000e0,
  EFI_SPDM_FIRMWARE_BLOB: 0x800000e1,
  EFI_SPDM_FIRMWARE_CONFIG: 0x800000e2,
} as const;

const NAMES = new Map<number, string>(Object.entries(EVENT).map(([name, type]) => [type, `EV_${name}`]));

/** The standard's name of an event type. */
export function eventTypeName(type: number): string {
  return NAMES.get(type) ?? `event type 0x${type.toString(16)}`;
}

const MAX_LOG_SIZE = 16 * 1024 * 1024; // real ones reach 300 KiB; CCEL areas are padded to 64 KiB and more
const MAX_EVENTS = 20_000;
const MAX_PCR = 31;
const SPEC_ID_AGILE = "Spec ID Event03\0";
const STARTUP_LOCALITY = "StartupLocality\0";

/** Parses a whole log. Padding of 0xff or zeros, as ACPI tables have, may follow the last event. */
export function parseEventLog(bytes: Uint8Array): EventLog {
  if (bytes.byteLength > MAX_LOG_SIZE) throw new EventLogError(`event log: ${bytes.byteLength} bytes`);
  const reader = new ByteReader(bytes, "event log");
  const first = readLegacy(reader, 0);
  const agile = first.type === EVENT.NO_ACTION && signatureOf(first.data) === SPEC_ID_AGILE;
  const algorithms = agile ? readSpecId(first.data) : undefined;
  const events: LogEvent[] = agile ? [] : [first];
  while (reader.remaining > 0 && !onlyPadding(bytes.subarray(reader.offset))) {
    if (events.length >= MAX_EVENTS) throw new EventLogError(`event log: more than ${MAX_EVENTS} events`);
    events.push(
      algorithms === undefined
        ? readLegacy(reader, events.length)
        : readAgile(reader, events.length, algorithms),
    );
  }
  return {
    format: agile ? "crypto-agile" : "sha1",
    banks: algorithms === undefined ? ["sha1"] : [...algorithms.values()].flatMap((a) => a.hash ?? []),
    events,
    parsedBytes: reader.offset,
    startupLocality: startupLocality(events),
  };
}

/** A cut log must not pass as a padded one: zeros count only as a run no event could begin with. */
function onlyPadding(rest: Uint8Array): boolean {
  const [head] = rest;
  if (head === 0xff) return rest.length >= 4 && rest.every((b) => b === 0xff);
  return head === 0 && rest.length >= 64 && rest.every((b) => b === 0);
}

function signatureOf(data: Uint8Array): string {
  return Buffer.from(data.subarray(0, 16)).toString("latin1");
}

function readLegacy(reader: ByteReader, index: number): LogEvent {
  const pcr = readPcr(reader, index);
  const type = reader.u32le();
  const digests = new Map<TpmHash, Uint8Array>([["sha1", reader.take(20)]]);
  return { index, pcr, type, digests, data: reader.take(reader.u32le()) };
}

function readPcr(reader: ByteReader, index: number): number {
  const pcr = reader.u32le();
  if (pcr > MAX_PCR && !(pcr === 0xffffffff)) {
    throw new EventLogError(`event log: event ${index} speaks about PCR ${pcr}`);
  }
  return pcr;
}

interface LogAlgorithm {
  readonly size: number;
  readonly hash: TpmHash | undefined;
}

/** TCG_EfiSpecIDEvent: the banks of the log and their digest sizes. */
function readSpecId(data: Uint8Array): Map<number, LogAlgorithm> {
  const reader = new ByteReader(data, "event log header");
  reader.skip(16 + 4 + 4); // signature, platformClass, version, errata, uintnSize
  const count = reader.u32le();
  if (count === 0 || count > 16) throw new EventLogError(`event log header: ${count} algorithms`);
  const algorithms = new Map<number, LogAlgorithm>();
  for (let i = 0; i < count; i++) {
    const id = reader.u16le();
    const size = reader.u16le();
    const hash = hashById(id);
    if (algorithms.has(id)) throw new EventLogError(`event log header: algorithm 0x${id.toString(16)} twice`);
    if (size === 0 || size > 128 || (hash !== undefined && hashSize(hash) !== size)) {
      throw new EventLogError(`event log header: digest of ${size} bytes for algorithm 0x${id.toString(16)}`);
    }
    algorithms.set(id, { size, hash });
  }
  reader.skip(reader.u8()); // vendorInfo
  reader.end();
  return algorithms;
}

function readAgile(
  reader: ByteReader,
  index: number,
  algorithms: ReadonlyMap<number, LogAlgorithm>,
): LogEvent {
  const pcr = readPcr(reader, index);
  const type = reader.u32le();
  const count = reader.u32le();
  if (count === 0 || count > algorithms.size) {
    throw new EventLogError(
      `event log: event ${index} has ${count} digests, the header names ${algorithms.size}`,
    );
  }
  const digests = new Map<TpmHash, Uint8Array>();
  const seen = new Set<number>();
  for (let i = 0; i < count; i++) {
    const id = reader.u16le();
    const algorithm = algorithms.get(id);
    if (algorithm === undefined || seen.has(id)) {
      const why = algorithm === undefined ? "not named in the header" : "there twice";
      throw new EventLogError(
        `event log: event ${index} has a digest of algorithm 0x${id.toString(16)}, ${why}`,
      );
    }
    seen.add(id);
    const value = reader.take(algorithm.size);
    if (algorithm.hash !== undefined) digests.set(algorithm.hash, value);
  }
  return { index, pcr, type, digests, data: reader.take(reader.u32le()) };
}

function startupLocality(events: readonly LogEvent[]): number {
  for (const event of events) {
    if (event.type !== EVENT.NO_ACTION || event.pcr !== 0 || event.data.length !== 17) continue;
    if (signatureOf(event.data) === STARTUP_LOCALITY) return event.data[16] ?? 0;
  }
  // An H-CRTM measures before the TPM is started, at locality 4.
  return events.some((e) => e.type === EVENT.EFI_HCRTM_EVENT && e.pcr === 0) ? 4 : 0;
}

/** Digests of an event for people: the strongest bank's. */
export function shownDigest(event: LogEvent): string {
  for (const bank of ["sha384", "sha256", "sm3", "sha512", "sha1"] as const) {
    const value = event.digests.get(bank);
    if (value !== undefined) return toHex(value);
  }
  return "";
}
