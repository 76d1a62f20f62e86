/** Runs the real command in a state directory of its own and ends whatever it started. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const COMMAND = join(import.meta.dirname, "../../shelter");

/** What a finished command gave. */
export interface Result {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Why machines cannot be started here, or undefined where they can; tests print it as their skip reason. */
export function noMachines(): string | undefined {
  const needed = ["/usr/bin/qemu-system-x86_64", "/usr/bin/swtpm", "/usr/bin/tar2sqfs", "/sbin/veritysetup"];
  const missing = needed.filter((path) => !existsSync(path));
  if (missing.length > 0) return `missing ${missing.join(", ")}: run bash tools/setup.sh test`;
  if (!existsSync(join(import.meta.dirname, "../../build/guest/agent")))
    return "no guest agent built: run bash tools/setup.sh test";
  return undefined;
}

/** One state directory with everything that was started in it. */
export class Sandbox implements Disposable {
  readonly directory: string;
  readonly env: NodeJS.ProcessEnv;
  readonly #children = new Set<ChildProcess>();

  constructor(env: NodeJS.ProcessEnv = {}) {
    this.directory = mkdtempSync(join(tmpdir(), "shelter-test-"));
    this.env = {
      ...process.env,
      SHELTER_STATE: join(this.directory, "state"),
      XDG_RUNTIME_DIR: this.directory,
      NO_COLOR: "1",
      ...env,
    };
    delete this.env["NODE_TEST_CONTEXT"];
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Runs a command to its end. */
  run(
    args: readonly string[],
    options: { input?: string | Uint8Array; env?: NodeJS.ProcessEnv; timeout?: number } = {},
  ): Result {
    const result = spawnSync(COMMAND, args, {
      cwd: this.directory,
      env: { ...this.env, ...options.env },
      encoding: "utf8",
      timeout: options.timeout ?? 300_000,
      maxBuffer: 64 << 20,
      ...(options.input === undefined ? {} : { input: options.input }),
    });
    return {
      status: result.status ?? (result.signal ? 128 : -1),
      stdout: result.stdout,
      stderr: result.stderr,
    };
  }

  /** Runs a command that must succeed and gives its output without the last line end. */
  ok(
    args: readonly string[],
    options: { input?: string | Uint8Array; env?: NodeJS.ProcessEnv } = {},
  ): string {
    const result = this.run(args, options);
    if (result.status !== 0) {
      throw new Error(
        `shelter ${args.join(" ")} ended with ${result.status}\n${result.stdout}${result.stderr}`,
      );
    }
    return result.stdout.replace(/\n$/, "");
  }

  /** Starts a command and leaves it running; it is killed at the end. */
  start(args: readonly string[], env: NodeJS.ProcessEnv = {}): ChildProcess {
    const child = spawn(COMMAND, args, { cwd: this.directory, env: { ...this.env, ...env }, stdio: "pipe" });
    this.#children.add(child);
    child.on("exit", () => this.#children.delete(child));
    return child;
  }

  /** Starts a broker that trusts this sandbox's virtual TPMs and waits until it listens. */
  async broker(): Promise<{ url: string; child: ChildProcess }> {
    const child = this.start(["serve", "--listen", "127.0.0.1:0", "--trust-local-tpm", "--json"]);
    let output = "";
    const url = await new Promise<string>((resolve, reject) => {
      child.stdout?.on("data", (chunk: Buffer) => {
        output += chunk.toString();
        const match = /"url":"([^"]+)"/.exec(output);
        if (match?.[1] !== undefined) resolve(match[1]);
      });
      let errors = "";
      child.stderr?.on("data", (chunk: Buffer) => {
        errors += chunk.toString();
      });
      child.on("exit", (code) => reject(new Error(`broker ended with ${code}: ${output}${errors}`)));
    });
    this.env["SHELTER_BROKER"] = url;
    return { url, child };
  }

  [Symbol.dispose](): void {
    for (const child of this.#children) child.kill("SIGKILL");
    const left = this.run(["ps", "-aq"]).stdout.split("\n").filter(Boolean);
    if (left.length > 0) this.run(["rm", "-f", ...left]);
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** The output of a child until it ends, and how it ended. */
export function finished(child: ChildProcess): Promise<Result> {
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => out.push(chunk));
  child.stderr?.on("data", (chunk: Buffer) => err.push(chunk));
  return new Promise((resolve) => {
    child.on("close", (code, signal) =>
      resolve({
        status: code ?? (signal ? 128 : -1),
        stdout: Buffer.concat(out).toString("latin1"),
        stderr: Buffer.concat(err).toString("utf8"),
      }),
    );
  });
}

/** Waits until a condition holds; fails with its name after a long while. */
export async function until(
  what: string,
  condition: () => boolean | Promise<boolean>,
  seconds = 120,
): Promise<void> {
  const end = Date.now() + seconds * 1000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`${what} did not happen in ${seconds} s`);
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
}
