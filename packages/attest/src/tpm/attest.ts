import { ByteReader } from "@shelter/base";
import { hashById, hashSize, type TpmHash } from "./algorithm.ts";
import { TpmError } from "./error.ts";

/** TPM_GENERATED_VALUE: a restricted key signs nothing that starts so unless the TPM made it. */
export const TPM_GENERATED = 0xff544347;
const ST_ATTEST_QUOTE = 0x8018;
const MAX_SELECTIONS = 16;

/** One bank of a TPML_PCR_SELECTION. */
export interface PcrSelection {
  readonly hash: TpmHash;
  /** Ascending. */
  readonly pcrs: readonly number[];
}

/** A quote: TPMS_ATTEST with TPMS_QUOTE_INFO (TPM 2.0 part 2, section 10.12). */
export interface TpmQuote {
  /** The signed bytes. */
  readonly raw: Uint8Array;
  readonly magic: number;
  readonly qualifiedSigner: Uint8Array;
  readonly extraData: Uint8Array;
  readonly clock: bigint;
  readonly resetCount: number;
  readonly restartCount: number;
  readonly safe: boolean;
  readonly firmwareVersion: bigint;
  readonly pcrSelect: readonly PcrSelection[];
  readonly pcrDigest: Uint8Array;
}

/** Parses the TPMS_ATTEST of a quote. The magic is given back, not judged. */
export function parseTpmQuote(bytes: Uint8Array): TpmQuote {
  const reader = new ByteReader(bytes, "TPMS_ATTEST");
  const magic = reader.u32be();
  const type = reader.u16be();
  if (type !== ST_ATTEST_QUOTE) {
    throw new TpmError("TPM_MALFORMED", `TPMS_ATTEST: type 0x${type.toString(16)} is not a quote (0x8018)`);
  }
  const qualifiedSigner = reader.take(reader.u16be());
  const extraData = reader.take(reader.u16be());
  const clock = reader.u64be();
  const resetCount = reader.u32be();
  const restartCount = reader.u32be();
  const safe = reader.u8();
  if (safe > 1) throw new TpmError("TPM_MALFORMED", `TPMS_ATTEST: safe is ${safe}, neither 0 nor 1`);
  const firmwareVersion = reader.u64be();
  const pcrSelect = readSelections(reader);
  const pcrDigest = reader.take(reader.u16be());
  reader.end();
  return {
    raw: bytes,
    magic,
    qualifiedSigner,
    extraData,
    clock,
    resetCount,
    restartCount,
    safe: safe === 1,
    firmwareVersion,
    pcrSelect,
    pcrDigest,
  };
}

function readSelections(reader: ByteReader): PcrSelection[] {
  const count = reader.u32be();
  if (count > MAX_SELECTIONS) throw new TpmError("TPM_MALFORMED", `TPMS_ATTEST: ${count} PCR selections`);
  const selections: PcrSelection[] = [];
  for (let i = 0; i < count; i++) {
    const id = reader.u16be();
    const hash = hashById(id);
    if (hash === undefined)
      throw new TpmError("TPM_UNSUPPORTED", `TPMS_ATTEST: PCR bank 0x${id.toString(16)}`);
    const size = reader.u8();
    if (size > 4) throw new TpmError("TPM_MALFORMED", `TPMS_ATTEST: PCR selection of ${size} bytes`);
    const bits = reader.take(size);
    const pcrs: number[] = [];
    for (let pcr = 0; pcr < size * 8; pcr++) {
      if (((bits[pcr >> 3] ?? 0) & (1 << (pcr & 7))) !== 0) pcrs.push(pcr);
    }
    selections.push({ hash, pcrs });
  }
  return selections;
}

/** PCR values by bank and number. */
export type PcrBanks = ReadonlyMap<TpmHash, ReadonlyMap<number, Uint8Array>>;

/**
 * What the selected PCRs concatenate to, in the order of the selection; undefined when a value is
 * missing or has not the size of its bank.
 */
export function selectedPcrs(selections: readonly PcrSelection[], banks: PcrBanks): Uint8Array[] | undefined {
  const values: Uint8Array[] = [];
  for (const { hash, pcrs } of selections) {
    for (const pcr of pcrs) {
      const value = banks.get(hash)?.get(pcr);
      if (value === undefined || value.length !== hashSize(hash)) return undefined;
      values.push(value);
    }
  }
  return values;
}
