import { sameBytes, toHex } from "@shelter/base";
import type { TpmHash } from "../tpm/algorithm.ts";
import type { CheckList } from "../verdict.ts";
import { contentState } from "./content.ts";
import { EVENT, type EventLog, eventTypeName } from "./log.ts";
import { type Registers, replay } from "./replay.ts";
import { explainLog } from "./words.ts";

/**
 * Checks a log against trusted register values of one bank: each register the log speaks about must
 * come out as claimed, so an event removed, added, swapped or altered shows. Registers without
 * events, and registers nobody vouches for, are not judged here.
 */
export function checkReplay(
  log: EventLog,
  bank: TpmHash,
  values: Registers,
  checks: CheckList,
  register = "PCR",
): boolean {
  const computed = replay(log, bank);
  const wrong: string[] = [];
  let compared = 0;
  for (const [pcr, value] of computed) {
    const claimed = values.get(pcr);
    if (claimed === undefined) continue;
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
      compared === 0 ? `the event log speaks about no register of the ${bank} bank that is known` : detail,
  });
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
  readonly secureBoot: boolean | undefined;
  readonly firmwareVersion: string | undefined;
  readonly commandLine: string | undefined;
}

/** Decodes the facts policies ask for; believe them only once the log's replay has been checked. */
export function bootClaims(log: EventLog): BootClaims {
  const explained = explainLog(log).filter((e) => e.verified);
  const of = (start: string): string | undefined =>
    explained.find((e) => e.text.startsWith(start))?.text.slice(start.length);
  const state = explained.find(
    (e) => e.event.type === EVENT.EFI_VARIABLE_DRIVER_CONFIG && e.text.startsWith("secure boot is "),
  );
  return {
    secureBoot: state === undefined ? undefined : state.text.endsWith("on"),
    firmwareVersion: of("firmware version "),
    commandLine: of("kernel command line "),
  };
}
