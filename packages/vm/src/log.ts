import { closeSync, existsSync, openSync, readSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { Instance } from "./config.ts";
import { isAlive, refreshInstance } from "./store.ts";

/** Bytes of one log file; when it is full it becomes `log.1`, and what was `log.1` is gone. */
const MAX_LOG = 8 << 20;

/** How often a follower looks for more, in milliseconds. */
const FOLLOW_INTERVAL = 100;

/** A piece of output, exactly as the guest wrote it. */
export interface LogEntry {
  readonly stream: "stdout" | "stderr";
  readonly time: Date;
  readonly bytes: Buffer;
}

/** What part of a log is wanted. */
export interface LogOptions {
  /** Go on until the instance ends. */
  readonly follow?: boolean;
  /** Only the last so many lines of output. */
  readonly tail?: number;
  readonly since?: Date;
  readonly signal?: AbortSignal;
}

/** Writes what an instance puts out as JSON lines; never more than two files of eight MiB. */
export class InstanceLog {
  readonly #path: string;
  #fd: number;
  #size: number;

  constructor(directory: string) {
    this.#path = join(directory, "log");
    this.#fd = openSync(this.#path, "a", 0o600);
    this.#size = statSync(this.#path).size;
  }

  write(stream: "stdout" | "stderr", bytes: Buffer): void {
    const line = `{"time":"${new Date().toISOString()}","stream":"${stream}","data":"${bytes.toString("base64")}"}\n`;
    if (this.#size > 0 && this.#size + line.length > MAX_LOG) this.#rotate();
    // Losing output to a full disk must not end the program that wrote it.
    try {
      this.#size += writeSync(this.#fd, line);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
    }
  }

  close(): void {
    closeSync(this.#fd);
  }

  #rotate(): void {
    closeSync(this.#fd);
    renameSync(this.#path, `${this.#path}.1`);
    this.#fd = openSync(this.#path, "a", 0o600);
    this.#size = 0;
  }
}

/** Forgets what earlier runs of an instance put out. */
export function clearLog(directory: string): void {
  for (const name of ["log", "log.1"]) rmSync(join(directory, name), { force: true });
}

/** What an instance has put out, in order, and with `follow` what it puts out from now on. */
export async function* readLogs(instance: Instance, options: LogOptions = {}): AsyncGenerator<LogEntry> {
  const path = join(instance.directory, "log");
  const old: LogEntry[] = [];
  const reader = new LineFile(path);
  try {
    if (existsSync(`${path}.1`)) {
      const before = new LineFile(`${path}.1`);
      for (const entry of before.read()) old.push(entry);
      before.close();
    }
    for (const entry of reader.read()) old.push(entry);
    const since = options.since?.getTime() ?? 0;
    const wanted = old.filter((e) => e.time.getTime() >= since);
    yield* options.tail === undefined ? wanted : lastLines(wanted, options.tail);
    while (options.follow === true && options.signal?.aborted !== true) {
      // Asked before reading: what was written until the end is then read for certain.
      const alive = stillThere(instance);
      yield* reader.read();
      if (!alive) return;
      await new Promise((resolve) => setTimeout(resolve, FOLLOW_INTERVAL));
    }
  } finally {
    reader.close();
  }
}

function stillThere(instance: Instance): boolean {
  try {
    return isAlive(refreshInstance(instance));
  } catch {
    return false;
  }
}

/** The entries that hold the last `count` lines; the first of them is cut where the line begins. */
function lastLines(entries: readonly LogEntry[], count: number): LogEntry[] {
  const taken: LogEntry[] = [];
  if (count <= 0) return taken;
  let lines = 0;
  for (let i = entries.length - 1; i >= 0; i--) {
    const entry = entries[i] as LogEntry;
    for (let at = entry.bytes.length - 1; at >= 0; at--) {
      // The newline that ends the last line does not begin another.
      if (entry.bytes[at] !== 0x0a || (taken.length === 0 && at === entry.bytes.length - 1)) continue;
      if (++lines === count) {
        if (at + 1 < entry.bytes.length) taken.push({ ...entry, bytes: entry.bytes.subarray(at + 1) });
        return taken.reverse();
      }
    }
    taken.push(entry);
  }
  return taken.reverse();
}

/** A file read line by line as it grows, also across the rotation of its name. */
class LineFile {
  readonly #path: string;
  #fd: number | null = null;
  #rest = Buffer.alloc(0);
  #buffer = Buffer.alloc(65536);

  constructor(path: string) {
    this.#path = path;
  }

  *read(): Generator<LogEntry> {
    for (;;) {
      this.#fd ??= existsSync(this.#path) ? openSync(this.#path, "r") : null;
      if (this.#fd === null) return;
      const got = readSync(this.#fd, this.#buffer);
      if (got > 0) {
        yield* this.#take(this.#buffer.subarray(0, got));
        continue;
      }
      if (!this.#rotated()) return;
      this.close();
    }
  }

  close(): void {
    if (this.#fd !== null) closeSync(this.#fd);
    this.#fd = null;
  }

  *#take(piece: Buffer): Generator<LogEntry> {
    let bytes = this.#rest.length === 0 ? piece : Buffer.concat([this.#rest, piece]);
    for (let end = bytes.indexOf(0x0a); end >= 0; end = bytes.indexOf(0x0a)) {
      const entry = parseLine(bytes.subarray(0, end).toString("utf8"));
      if (entry !== null) yield entry;
      bytes = bytes.subarray(end + 1);
    }
    this.#rest = Buffer.from(bytes);
  }

  #rotated(): boolean {
    if (this.#fd === null) return false;
    try {
      const now = statSync(this.#path, { bigint: true });
      return now.ino !== statSync(`/proc/self/fd/${this.#fd}`, { bigint: true }).ino;
    } catch {
      return false;
    }
  }
}

/** Null for a line that a crash cut short. */
function parseLine(line: string): LogEntry | null {
  try {
    const { time, stream, data } = JSON.parse(line) as { time: string; stream: string; data: string };
    if (stream !== "stdout" && stream !== "stderr") return null;
    return { stream, time: new Date(time), bytes: Buffer.from(data, "base64") };
  } catch {
    return null;
  }
}
