import { readFileSync } from "node:fs";
import type { ProcessMark } from "./config.ts";

/** The mark of a running process; null when there is none of that number, or it is a zombie. */
export function markProcess(pid: number): ProcessMark | null {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, "utf8");
  } catch {
    return null;
  }
  // The name in parentheses may hold anything; fields are counted behind its last parenthesis (proc(5)).
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  const state = fields[0];
  const start = fields[19];
  return state === undefined || start === undefined || state === "Z" || state === "X" ? null : { pid, start };
}

/** Whether the marked process still runs. */
export function stillRuns(mark: ProcessMark | null): boolean {
  return mark !== null && markProcess(mark.pid)?.start === mark.start;
}

/** Ends a marked process at once; says whether there was one. */
export function killMarked(mark: ProcessMark | null): boolean {
  if (mark === null || !stillRuns(mark)) return false;
  try {
    process.kill(mark.pid, "SIGKILL");
    return true;
  } catch {
    return false;
  }
}

/** CPU seconds a process has used. */
export function cpuSeconds(pid: number): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    // utime and stime in ticks; Linux reports 100 a second to user space on every architecture.
    return (Number(fields[11]) + Number(fields[12])) / 100;
  } catch {
    return 0;
  }
}

/** Resident bytes of a process. */
export function residentBytes(pid: number): number {
  try {
    const match = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    return Number(match?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
