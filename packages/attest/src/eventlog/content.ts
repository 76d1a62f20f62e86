import { sameBytes } from "@shelter/base";
import { digest, hashAvailable } from "../tpm/algorithm.ts";
import { EVENT, type LogEvent } from "./log.ts";
import { readVariable } from "./variable.ts";

/**
 * What an event's digests say about its data. Only the digests are in the registers: data that no
 * digest covers is the writer's word.
 *
 * - `verified`: every digest is that of the data.
 * - `mismatch`: this type of event digests its data, and the data is not what was digested.
 * - `unverifiable`: what was measured is elsewhere (a file, firmware), or recorded by a writer known to deviate.
 */
export type ContentState = "verified" | "mismatch" | "unverifiable";

/** Types whose digest is, by the standard, that of the event data. */
const DATA_DIGESTED: ReadonlySet<number> = new Set([
  EVENT.SEPARATOR,
  EVENT.ACTION,
  EVENT.EFI_ACTION,
  EVENT.S_CRTM_VERSION,
  EVENT.EFI_GPT_EVENT,
  EVENT.EFI_GPT_EVENT2,
  EVENT.OMIT_BOOT_DEVICE_EVENTS,
]);

/** Types that hold a UEFI variable: the digest is of the whole structure, in firmware before 2017 of the value. */
const VARIABLES: ReadonlySet<number> = new Set([
  EVENT.EFI_VARIABLE_DRIVER_CONFIG,
  EVENT.EFI_VARIABLE_BOOT,
  EVENT.EFI_VARIABLE_BOOT2,
  EVENT.EFI_VARIABLE_AUTHORITY,
]);

const GRUB_TEXT = /^(?:grub_)?(?:cmd|kernel_cmdline):? /;

/** Judges the data of one event by its digests. */
export function contentState(event: LogEvent): ContentState {
  const { type, data } = event;
  if (type === EVENT.NO_ACTION) return "unverifiable";
  if (digestsAre(event, data)) return "verified";
  if (VARIABLES.has(type)) {
    const variable = readVariable(event);
    if (variable !== undefined && digestsAre(event, variable.data)) return "verified";
    // Old shim wrote longer events than it digested; what it digested is then not in the log.
    const odd = variable === undefined || !variable.exact;
    return odd && type === EVENT.EFI_VARIABLE_AUTHORITY ? "unverifiable" : "mismatch";
  }
  if (type === EVENT.SEPARATOR) return separatorState(event);
  if (DATA_DIGESTED.has(type)) return textState(event, data);
  if (type === EVENT.IPL) {
    const text = grubText(data);
    return text === undefined ? "unverifiable" : textState(event, text);
  }
  return "unverifiable";
}

/** Writers disagree whether the zero at the end of a text belongs to it. */
function textState(event: LogEvent, text: Uint8Array): ContentState {
  const end = text.findLastIndex((b) => b !== 0) + 1;
  const bare = text.subarray(0, end);
  const covered = [0, 1, 2].some((zeros) => digestsAre(event, Buffer.concat([bare, Buffer.alloc(zeros)])));
  return covered ? "verified" : "mismatch";
}

/** A separator that reports an error digests the number 1, whatever its data says (section 10.4.1). */
function separatorState(event: LogEvent): ContentState {
  return digestsAre(event, new Uint8Array([1, 0, 0, 0])) ? "unverifiable" : "mismatch";
}

/** The text GRUB measured, which its event shows behind a prefix. */
function grubText(data: Uint8Array): Uint8Array | undefined {
  const end = data.indexOf(0);
  const text = Buffer.from(end < 0 ? data : data.subarray(0, end));
  const prefix = GRUB_TEXT.exec(text.subarray(0, 40).toString("latin1"));
  return prefix === null ? undefined : text.subarray(prefix[0].length);
}

function digestsAre(event: LogEvent, data: Uint8Array): boolean {
  let compared = 0;
  for (const [bank, value] of event.digests) {
    if (!hashAvailable(bank)) continue;
    if (!sameBytes(digest(bank, data), value)) return false;
    compared++;
  }
  return compared > 0;
}
