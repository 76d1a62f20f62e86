import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type BoundChild, startBound, tailOf } from "./child.ts";
import { VmError } from "./errors.ts";
import { findProgram } from "./host.ts";
import { keepOneBank } from "./tpm-banks.ts";

/** Ready TPMs kept for the runs to come. */
const SPARES = 1;

/** Seconds until swtpm must answer on its socket. */
const READY_TIMEOUT = 20;

/** Seconds after which half-made state of somebody killed is thrown away. */
const STALE = 600;

/**
 * The software TPMs of one user: an authority of their own that signs endorsement certificates, so that no
 * file of root is needed and a broker can be told exactly whose TPMs to trust.
 */
export class TpmFactory {
  readonly #directory: string;

  constructor(state: string) {
    this.#directory = join(state, "tpm");
    mkdirSync(this.#directory, { recursive: true, mode: 0o700 });
  }

  /** PEM files of the authority (root, then issuer); they exist once the first TPM was made. */
  get authorityFiles(): readonly string[] {
    return [join(this.#ca, "swtpm-localca-rootca-cert.pem"), join(this.#ca, "issuercert.pem")];
  }

  get #ca(): string {
    return join(this.#directory, "ca");
  }

  get #spares(): string {
    return join(this.#directory, "spare");
  }

  /** Makes sure the authority exists, so that its certificates can be given to a broker before the first run. */
  async ensureAuthority(): Promise<readonly string[]> {
    if (this.authorityFiles.some((f) => !existsSync(f))) await this.prepareSpare();
    return this.authorityFiles;
  }

  /** Gives `directory` a TPM nobody had before: a spare one, or one made now. */
  async provide(directory: string): Promise<void> {
    for (const name of this.#list(this.#spares)) {
      try {
        renameSync(join(this.#spares, name), directory);
        return;
      } catch {
        // another run took it, or the instance had one already
      }
    }
    await this.#manufacture(directory, false);
  }

  /** Makes a TPM for the next run, unless there is one. Runs behind everything else; `abort` ends it. */
  async prepareSpare(abort?: AbortSignal): Promise<void> {
    this.#sweep();
    if (this.#list(this.#spares).length >= SPARES) return;
    const half = join(this.#directory, "half", randomBytes(8).toString("hex"));
    try {
      await this.#manufacture(half, true, abort);
      mkdirSync(this.#spares, { recursive: true, mode: 0o700 });
      renameSync(half, join(this.#spares, randomBytes(8).toString("hex")));
    } finally {
      rmSync(half, { recursive: true, force: true });
    }
  }

  async #manufacture(directory: string, background: boolean, abort?: AbortSignal): Promise<void> {
    rmSync(directory, { recursive: true, force: true });
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const config = this.#configure();
    const log = `${directory}.log`;
    const setup = findProgram("swtpm_setup");
    if (setup === null) throw missing("swtpm_setup");
    const child = await startBound(
      [
        setup,
        ...["--tpm2", "--tpmstate", directory, "--config", config],
        ...["--ecc", "--create-ek-cert", "--lock-nvram", "--pcr-banks", "sha256"],
      ],
      // swtpm_setup wants a place for its authority even when its options name another.
      { log, background, finishes: true, env: { ...process.env, XDG_CONFIG_HOME: this.#directory } },
    );
    const stop = (): void => child.kill("SIGKILL");
    abort?.addEventListener("abort", stop);
    try {
      const end = await child.ended;
      if (end.code !== 0) {
        throw new VmError("TPM_SETUP", "unavailable", `swtpm_setup failed: ${tailOf(log, 600)}`);
      }
      keepOneBank(directory);
    } finally {
      abort?.removeEventListener("abort", stop);
      rmSync(log, { force: true });
    }
  }

  /** Writes the configuration of the authority; the same bytes every time. */
  #configure(): string {
    const localca = findProgram("swtpm_localca");
    if (localca === null) throw missing("swtpm_localca");
    mkdirSync(this.#ca, { recursive: true, mode: 0o700 });
    const put = (name: string, lines: readonly string[]): string => {
      const path = join(this.#ca, name);
      if (!existsSync(path)) writeFileSync(path, `${lines.join("\n")}\n`, { mode: 0o600 });
      return path;
    };
    const authority = put("swtpm-localca.conf", [
      `statedir = ${this.#ca}`,
      `signingkey = ${join(this.#ca, "signkey.pem")}`,
      `issuercert = ${join(this.#ca, "issuercert.pem")}`,
      `certserial = ${join(this.#ca, "certserial")}`,
    ]);
    const options = put("swtpm-localca.options", [
      "--platform-manufacturer Shelter",
      "--platform-version 1",
      "--platform-model Shelter",
    ]);
    return put("swtpm_setup.conf", [
      `create_certs_tool = ${localca}`,
      `create_certs_tool_config = ${authority}`,
      `create_certs_tool_options = ${options}`,
      "active_pcr_banks = sha256",
    ]);
  }

  #list(directory: string): string[] {
    try {
      return readdirSync(directory);
    } catch {
      return [];
    }
  }

  #sweep(): void {
    const half = join(this.#directory, "half");
    for (const name of this.#list(half)) {
      const path = join(half, name);
      try {
        if (Date.now() - statSync(path).mtimeMs > STALE * 1000)
          rmSync(path, { recursive: true, force: true });
      } catch {
        // somebody else was faster
      }
    }
  }
}

/** Starts the TPM in `directory` and waits until it listens on `socket`. It ends when its user hangs up. */
export async function startTpm(directory: string, socket: string, log: string): Promise<BoundChild> {
  const swtpm = findProgram("swtpm");
  if (swtpm === null) throw missing("swtpm");
  const child = await startBound(
    [
      swtpm,
      "socket",
      "--tpm2",
      ...["--tpmstate", `dir=${directory},mode=0600`],
      ...["--ctrl", `type=unixio,path=${socket},mode=0600`],
      "--terminate",
    ],
    { log },
  );
  let dead = false;
  void child.ended.then(() => {
    dead = true;
  });
  const deadline = performance.now() + READY_TIMEOUT * 1000;
  while (!existsSync(socket)) {
    if (dead || performance.now() > deadline) {
      child.kill("SIGKILL");
      throw new VmError("TPM_SETUP", "unavailable", `swtpm did not start: ${tailOf(log, 600)}`);
    }
    await new Promise((resolve) => setTimeout(resolve, 3));
  }
  return child;
}

function missing(tool: string): VmError {
  return new VmError("TOOL_MISSING", "unavailable", `${tool} is not in PATH`, {
    hint: "apt-get install swtpm swtpm-tools",
  });
}
