import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";

/** Why a test that needs these programs is skipped; false when all are there. */
export function missing(...programs: readonly string[]): string | false {
  const gone = programs.filter(
    (p) => !["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"].some((d) => existsSync(`${d}/${p}`)),
  );
  return gone.length === 0 ? false : `not installed: ${gone.join(", ")}`;
}

/** Runs a program to its end; throws with its last words unless it ended well. */
export function run(program: string, args: readonly string[], input?: Uint8Array): Buffer {
  const path = `${process.env["PATH"]}:/usr/sbin:/sbin`;
  const result = spawnSync(program, args, {
    input,
    env: { ...process.env, PATH: path, LC_ALL: "C", TZ: "UTC" },
    maxBuffer: 2 ** 28,
  });
  if (result.error !== undefined) throw result.error;
  if (result.status !== 0)
    throw new Error(`${program} ended with ${result.status}: ${result.stderr.toString()}`);
  return result.stdout;
}
