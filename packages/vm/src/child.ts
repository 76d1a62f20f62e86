import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { VmError } from "./errors.ts";

/** How a helper process ended. */
export interface ChildEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A process that the kernel kills when its parent dies, however that happens. */
export interface BoundChild {
  readonly pid: number;
  readonly process: ChildProcess;
  readonly ended: Promise<ChildEnd>;
  kill(signal: NodeJS.Signals): void;
}

/** What a bound child may be given. */
export interface BoundOptions {
  /** File that takes stdout and stderr. */
  readonly log: string;
  readonly env?: NodeJS.ProcessEnv;
  /** Run behind everything else. */
  readonly background?: boolean;
  /**
   * Let it finish by itself when this process is killed: for a program that is done in a moment and starts others,
   * which the kernel would not kill with it.
   */
  readonly finishes?: boolean;
}

/**
 * Starts a program through `setpriv --pdeathsig KILL`: when this process is killed, even by SIGKILL, the
 * program dies with it. Its own process group keeps a terminal's Ctrl-C from reaching it.
 */
export async function startBound(argv: readonly string[], options: BoundOptions): Promise<BoundChild> {
  const log = openSync(options.log, "a", 0o600);
  const full = [
    ...(options.background === true ? ["nice", "-n", "19"] : []),
    ...(options.finishes === true ? [] : ["setpriv", "--pdeathsig", "KILL", "--"]),
    ...argv,
  ];
  const [program, ...args] = full as [string, ...string[]];
  let child: ChildProcess;
  try {
    child = spawn(program, args, {
      stdio: ["ignore", log, log],
      detached: true,
      env: options.env ?? process.env,
    });
  } finally {
    closeSync(log);
  }
  const ended = new Promise<ChildEnd>((resolve) => {
    child.once("exit", (code, signal) => resolve({ code, signal }));
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (cause) =>
      reject(new VmError("TOOL_MISSING", "unavailable", `cannot start ${program}`, { cause })),
    );
  });
  const pid = child.pid as number;
  return {
    pid,
    process: child,
    ended,
    kill: (signal) => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      try {
        // The group: what the program has started goes with it.
        process.kill(-pid, signal);
      } catch {
        child.kill(signal);
      }
    },
  };
}

/** The last lines of a log, for an error message. */
export function tailOf(path: string, bytes = 2000): string {
  try {
    const fd = openSync(path, "r");
    try {
      const size = fstatSync(fd).size;
      const buffer = Buffer.alloc(Math.min(size, bytes));
      const read = readSync(fd, buffer, 0, buffer.length, Math.max(0, size - bytes));
      return buffer.subarray(0, read).toString("utf8").trim();
    } finally {
      closeSync(fd);
    }
  } catch {
    return "";
  }
}
