import { createHash } from "node:crypto";
import { hashAvailable, hashSize, type TpmHash } from "../tpm/algorithm.ts";
import { EVENT, type EventLog } from "./log.ts";

/** Register values by number. */
export type Registers = ReadonlyMap<number, Uint8Array>;

/**
 * Replays a log over one bank: what each register it speaks about must then hold. Registers without
 * events are absent. PCR 17 to 22 start as ones (a dynamic launch resets them), all others as zeros,
 * PCR 0 with the startup locality in its last byte.
 */
export function replay(log: EventLog, bank: TpmHash): Registers {
  const size = hashSize(bank);
  const registers = new Map<number, Uint8Array>();
  if (!hashAvailable(bank)) return registers;
  for (const event of log.events) {
    const value = event.digests.get(bank);
    if (event.type === EVENT.NO_ACTION || event.pcr === 0xffffffff || value === undefined) continue;
    const before = registers.get(event.pcr) ?? initial(event.pcr, size, log.startupLocality);
    registers.set(event.pcr, createHash(bank).update(before).update(value).digest());
  }
  return registers;
}

function initial(pcr: number, size: number, locality: number): Uint8Array {
  const value = new Uint8Array(size);
  if (pcr >= 17 && pcr <= 22) value.fill(0xff);
  if (pcr === 0) value[size - 1] = locality;
  return value;
}

/** Replays every bank of the log. */
export function replayAll(log: EventLog): Map<TpmHash, Registers> {
  return new Map(log.banks.map((bank) => [bank, replay(log, bank)]));
}
