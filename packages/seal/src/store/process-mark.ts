import { readFileSync } from "node:fs";

/** A process by number and start time: a number alone is reused. Undefined when there is no such process. */
export function processMark(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined; // no such process
  }
  // proc(5): field 22, counted behind the command, which may itself hold spaces and brackets.
  const start = stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  return start === undefined ? undefined : `${pid}-${start}`;
}
