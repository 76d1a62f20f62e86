import { sameBytes, toHex } from "@shelter/base";
import type { TpmHash } from "../tpm/algorithm.ts";
import type { CheckList } from "../verdict.ts";
import { contentState } from "./content.ts";
import { EVENT, type EventLog, eventTypeName } from "./log.ts";
import { type Registers, replay } from "./replay.ts";
import { readVariable } from "./variable.ts";
import { explainLog } from "./words.ts";

/** What of a log is judged, and how its registers are called. */
export interface ReplayOptions {
  /** `PCR` unless told. */
  readonly register?: string;
  /**
   * Registers that only events can have changed: one of these that is not in its first state must
   * have events. `firmware` (the default) are PCR 0 to 7, since later ones are also extended by
   * software that keeps its own log; `all` is for logs that are complete.
   */
  readonly complete?: "firmware" | "all";
}

const LAST_FIRMWARE_PCR = 7;

/**
 * Checks a log against trusted register values of one bank: each register the log speaks about must
 * come out as claimed, so an event removed, added, swapped or altered shows, and so does a register
 * all of whose events were removed. Registers nobody vouches for are not judged here.
 */
export function checkReplay(
  log: EventLog,
  bank: TpmHash,
  values: Registers,
  checks: CheckList,
  options: ReplayOptions = {},
): boolean {
  const { register = "PCR", complete = "firmware" } = options;
  const computed = replay(log, bank);
  const wrong: string[] = [];
  let compared = 0;
  for (const [pcr, claimed] of values) {
    const value = computed.get(pcr);
    if (value === undefined) {
      const explained = complete === "all" || pcr <= LAST_FIRMWARE_PCR;
      if (explained && !untouched(claimed))
        wrong.push(`${register} ${pcr} is ${toHex(claimed)} without any event`);
      continue;
    }
    compared++;
    if (!sameBytes(value, claimed)) {
      wrong.push(`${register} ${pcr} replays to ${toHex(value)}, the value is ${toHex(claimed)}`);
    }
  }
  const detail =
    wrong.length > 0
      ? `the event log does not lead to the registers: ${wrong.join("; ")}`
      : `${compared} registers of the ${bank} bank follow from the event log`;
  return checks.add({
    name: "eventlog-replay",
    ok: wrong.length === 0 && compared > 0,
    failure: "untrusted",
    claimed: `${log.events.length} events`,
    detail:
      compared === 0 && wrong.length === 0
        ? `the event log speaks about no register of the ${bank} bank that is known`
        : detail,
  });
}

/** Whether a register still holds what it started with. */
function untouched(value: Uint8Array): boolean {
  return value.every((b) => b === 0) || value.every((b) => b === 0xff);
}

/** Checks that no event shows data other than what was measured. Replay alone cannot see that. */
export function checkContents(log: EventLog, checks: CheckList): boolean {
  const forged = log.events.filter((event) => contentState(event) === "mismatch");
  return checks.add({
    name: "eventlog-data",
    ok: forged.length === 0,
    failure: "refused",
    ...(forged.length === 0
      ? {}
      : {
          detail: `the data is not what was measured in ${forged
            .slice(0, 8)
            .map((e) => `event ${e.index} (${eventTypeName(e.type)}, register ${e.pcr})`)
            .join(", ")}: eventdata-digest-mismatch`,
        }),
  });
}

/** What a log says in words about the boot, only out of data its digests cover. */
export interface BootClaims {
  /** Of PCR 7; undefined when the log does not show it beyond doubt. */
  readonly secureBoot: boolean | undefined;
  readonly firmwareVersion: string | undefined;
  /** As the boot loader recorded it. */
  readonly commandLine: string | undefined;
}

/**
 * Decodes the facts policies ask for, out of registers somebody vouches for (`vouched`, all when
 * absent); believe them only once the log's replay over those has been checked.
 *
 * The type of an event is not measured, and software started later can extend any register with the
 * digest of any data. Secure boot is therefore read from the first event of PCR 7 alone, which
 * firmware measures before anything else runs (PC Client Platform Firmware Profile, section 3.3.4.8).
 */
export function bootClaims(log: EventLog, vouched?: ReadonlySet<number>): BootClaims {
  const counts = (pcr: number): boolean => vouched === undefined || vouched.has(pcr);
  const explained = explainLog(log).filter((e) => e.verified && counts(e.event.pcr));
  const of = (start: string): string | undefined =>
    explained.find((e) => e.text.startsWith(start))?.text.slice(start.length);
  const head = log.events.find((e) => e.pcr === SECURE_BOOT_PCR && e.type !== EVENT.NO_ACTION);
  const variable =
    head?.type === EVENT.EFI_VARIABLE_DRIVER_CONFIG && contentState(head) === "verified" && counts(head.pcr)
      ? readVariable(head)
      : undefined;
  return {
    secureBoot:
      variable?.name === "SecureBoot" && variable.guid === EFI_GLOBAL_VARIABLE
        ? variable.data.length === 1 && variable.data[0] === 1
        : undefined,
    firmwareVersion: of("firmware version "),
    commandLine: of("kernel command line "),
  };
}

const SECURE_BOOT_PCR = 7;
const EFI_GLOBAL_VARIABLE = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
