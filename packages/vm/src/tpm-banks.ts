import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";

// TPM_ALG_SHA1, SHA256, SHA384, SHA512 and, for each, a selection of PCRs in three bytes (TPMS_PCR_SELECTION):
// all of SHA-256's, none of the others'. This is TPML_PCR_SELECTION as swtpm_setup --pcr-banks sha256 leaves it.
const ALL_BANKS = Buffer.from(
  "00000004" + "000403000000" + "000b03ffffff" + "000c03000000" + "000d03000000",
  "hex",
);
const ONE_BANK = Buffer.from(
  "00000004" + "000b03ffffff" + "000b03000000" + "000b03000000" + "000b03000000",
  "hex",
);

/**
 * Makes a new TPM tell of the SHA-256 bank alone. OVMF hashes everything it measures with each algorithm of
 * which the TPM lists a bank, in use or not: emulated, the three that nobody uses cost 3.7 of 9.3 seconds of a
 * boot. No PCR, quote or event changes by it. Newer swtpm takes a profile for this; version 0.7 keeps what it
 * was built with, so the list in the state it has just written is replaced, in place and only where it is
 * found exactly once. Says whether it was.
 */
export function keepOneBank(directory: string): boolean {
  const path = join(directory, "tpm2-00.permall");
  const state = readFileSync(path);
  const at = state.indexOf(ALL_BANKS);
  if (at < 0 || state.indexOf(ALL_BANKS, at + 1) >= 0) return false;
  ONE_BANK.copy(state, at);
  writeFileSync(`${path}.new`, state, { mode: 0o600 });
  renameSync(`${path}.new`, path);
  return true;
}
