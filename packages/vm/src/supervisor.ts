import { copyFileSync, readFileSync, rmSync } from "node:fs";
import type { Socket } from "node:net";
import { join } from "node:path";
import type { Readable } from "node:stream";
import {
  brokerRelay,
  type ExecRequest,
  GuestError,
  type GuestProcess,
  noBroker,
  type ProcessExit,
  Session,
  type TerminalSize,
} from "@shelter/guest";
import { watchBoot } from "./boot-watch.ts";
import { type BoundChild, startBound, tailOf } from "./child.ts";
import { refuseUnavailable } from "./choice.ts";
import { qemuCommand } from "./command.ts";
import type { Instance, InstanceEnd, InstanceStats, Timing } from "./config.ts";
import { ControlServer } from "./control-server.ts";
import { VmError } from "./errors.ts";
import { probeHost } from "./host.ts";
import { clearLog, InstanceLog } from "./log.ts";
import { explainLoss } from "./loss.ts";
import { Monitor } from "./monitor.ts";
import { Output } from "./output.ts";
import { markProcess, residentBytes } from "./process-mark.ts";
import { makeRuntime, type RuntimePaths, removeRuntime } from "./runtime.ts";
import { RunSockets } from "./sockets.ts";
import { eraseInstance, errorRecord, isAlive, RUN_FILES, refreshInstance, updateStatus } from "./store.ts";
import { startTpm, TpmFactory } from "./tpm.ts";

/** Seconds a guest gets to go by itself once everything is said, and to react to SIGKILL. */
const GRACE = 10;

/** How an instance is run by this process. */
export interface RunOptions {
  readonly size?: TerminalSize | undefined;
  /** Called for each moment of the run, for `--timings` and progress. */
  readonly onTiming?: ((timing: Timing) => void) | undefined;
  /** `performance.now()` when the command began; now, unless given. */
  readonly began?: number | undefined;
}

/** An instance that this process runs. */
export interface RunningInstance {
  readonly instance: Instance;
  /** The main process; closing its `stdout` or `stderr` is a broken pipe for the program. */
  readonly main: GuestProcess;
  /** How it ended, once nothing is left of it but its record. Rejects with the reason when it could not run. */
  readonly ended: Promise<InstanceEnd>;
  exec(request: ExecRequest): GuestProcess;
  /** SIGTERM, and SIGKILL after so many seconds; a guest that is not up yet is ended at once. */
  stop(seconds: number): void;
  /** Sends a signal to the main process; a guest that is not up yet is ended by it. */
  signal(number: number): void;
  stats(): InstanceStats;
}

/** Boots an instance in this process and resolves when its machine runs; everything is undone when that fails. */
export async function runInstance(instance: Instance, options: RunOptions = {}): Promise<RunningInstance> {
  const now = refreshInstance(instance);
  if (isAlive(now)) {
    throw new VmError("INSTANCE_RUNNING", "usage", `instance ${now.name} is running already`);
  }
  const run = new Run(now, options);
  await run.start();
  return run;
}

class Run implements RunningInstance {
  instance: Instance;
  readonly ended: Promise<InstanceEnd>;
  readonly #options: RunOptions;
  readonly #began: number;
  readonly #timings: Timing[] = [];
  readonly #settle: { resolve: (end: InstanceEnd) => void; reject: (error: Error) => void };
  readonly #abort = new AbortController();
  readonly #sockets = new RunSockets();
  #log: InstanceLog | undefined;
  #paths: RuntimePaths | undefined;
  #control: ControlServer | undefined;
  #tpm: BoundChild | undefined;
  #tpmDied = false;
  #qemu: BoundChild | undefined;
  #monitor: Monitor | undefined;
  #session: Session | undefined;
  #outputs: { stdout: Output; stderr: Output } | undefined;
  #main: GuestProcess | undefined;
  #spare: Promise<void> = Promise.resolve();
  #started = false;
  /** Set when this side decided to end the machine: what the end then counts as. */
  #verdict: ProcessExit | VmError | undefined;
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #undo: (() => void)[] = [];

  constructor(instance: Instance, options: RunOptions) {
    this.instance = instance;
    this.#options = options;
    this.#began = options.began ?? performance.now();
    const { promise, resolve, reject } = Promise.withResolvers<InstanceEnd>();
    promise.catch(() => {});
    this.ended = promise;
    this.#settle = { resolve, reject };
  }

  get main(): GuestProcess {
    if (this.#main === undefined)
      throw new VmError("INSTANCE_NOT_RUNNING", "bug", "the machine is not up yet");
    return this.#main;
  }

  async start(): Promise<void> {
    this.instance = updateStatus(this.instance, {
      state: "starting",
      startedAt: new Date().toISOString(),
      finishedAt: null,
      supervisor: markProcess(process.pid),
      qemu: null,
      exit: null,
      error: null,
    });
    try {
      await this.#boot();
    } catch (error) {
      await this.#clean(null, error as Error);
      throw error;
    }
    void this.#watch();
  }

  exec(request: ExecRequest): GuestProcess {
    if (this.#session === undefined)
      throw new VmError("INSTANCE_NOT_RUNNING", "usage", "the guest is not up yet");
    return this.#session.exec(request);
  }

  stop(seconds: number): void {
    if (!this.#started) {
      this.#end({ signal: 15 });
      return;
    }
    this.#session?.stop(seconds);
    this.#later(seconds + GRACE, () => this.#end({ signal: 9 }));
  }

  signal(number: number): void {
    if (!this.#started) {
      this.#end({ signal: number });
      return;
    }
    this.#session?.main.signal(number);
    if (number === 9) this.#later(GRACE, () => this.#end({ signal: 9 }));
  }

  /** A reader of the main process's output for somebody who joins. */
  watchOutput(): { stdout: Readable; stderr: Readable } {
    if (this.#outputs === undefined)
      throw new VmError("INSTANCE_NOT_RUNNING", "usage", "the guest is not up yet");
    return { stdout: this.#outputs.stdout.watch(false), stderr: this.#outputs.stderr.watch(false) };
  }

  stats(): InstanceStats {
    return {
      machine: this.#qemu === undefined ? 0 : residentBytes(this.#qemu.pid),
      supervisor: residentBytes(process.pid),
      tpm: this.#tpm === undefined ? 0 : residentBytes(this.#tpm.pid),
      timings: this.#timings,
    };
  }

  async #boot(): Promise<void> {
    const { instance } = this;
    const { config } = instance;
    const state = join(instance.directory, "..", "..");
    const host = await probeHost({ state });
    refuseUnavailable(config.platform, host);
    if (config.accelerator === "kvm" && host.accelerator !== "kvm") {
      throw new VmError("PLATFORM_UNAVAILABLE", "unavailable", "this host has no usable KVM any more");
    }
    clearLog(instance.directory);
    const log = new InstanceLog(instance.directory);
    this.#log = log;
    const paths = makeRuntime(instance.id);
    this.#paths = paths;
    for (const forward of config.ports) {
      await this.#sockets.forward(forward, (port) => this.#connect(port));
    }
    this.#control = await ControlServer.listen(paths.control, this);
    const agent = await this.#sockets.expect(paths.agent);
    const monitor = await this.#sockets.expect(paths.monitor);

    const tpms = new TpmFactory(state);
    const variables = join(instance.directory, "firmware-variables");
    if (config.platform === "vtpm") {
      copyFileSync(host.firmware.ovmfVars as string, variables);
      const directory = join(instance.directory, "tpm");
      rmSync(directory, { recursive: true, force: true });
      await tpms.provide(directory);
      this.#tpm = await startTpm(directory, paths.tpm, join(instance.directory, "tpm.log"));
      void this.#tpm.ended.then(() => this.#tpmEnded());
      this.#time("tpm");
    }
    const command = qemuCommand(
      config,
      { agentSocket: paths.agent, monitorSocket: paths.monitor, tpmSocket: paths.tpm, variables },
      { ...host, qemu: host.qemu?.path ?? "qemu-system-x86_64" },
    );
    const qemuLog = join(instance.directory, "qemu.log");
    rmSync(qemuLog, { force: true });
    const qemu = await startBound(command.argv, { log: qemuLog });
    this.#qemu = qemu;
    this.#time("qemu");
    this.instance = updateStatus(this.instance, { qemu: markProcess(qemu.pid) });
    if (config.platform === "vtpm") {
      this.#spare = tpms.prepareSpare(this.#abort.signal).catch(() => {});
    }
    const [agentSocket, monitorSocket] = await Promise.race([
      Promise.all([agent.connected, monitor.connected]),
      qemu.ended.then((end): never => {
        throw new VmError(
          "MACHINE_DIED",
          "unavailable",
          `QEMU did not start (${end.signal ?? `status ${end.code}`}): ${tailOf(qemuLog, 600)}`,
        );
      }),
    ]);
    this.#monitor = new Monitor(monitorSocket);
    this.#openSession(agentSocket);
  }

  #openSession(transport: Socket): void {
    const { config } = this.instance;
    const session = new Session({
      transport,
      manifest: readFileSync(join(config.image.directory, "manifest.json")),
      attest: config.attest,
      now: new Date(),
      run: {
        args: config.args,
        env: config.env,
        tty: config.tty,
        size: this.#options.size,
        stdin: config.stdin,
        mounts: config.mounts,
        hostname: this.instance.id.slice(0, 12),
      },
      relay: config.broker === null ? noBroker() : brokerRelay(config.broker),
      onStep: (step) => {
        const timing: Timing = { side: "guest", step: step.step, ms: step.ms };
        this.#timings.push(timing);
        this.#options.onTiming?.(timing);
      },
    });
    this.#session = session;
    const log = this.#log as InstanceLog;
    const main = session.main;
    this.#outputs = {
      stdout: new Output(main.stdout, "stdout", log),
      stderr: new Output(main.stderr, "stderr", log),
    };
    this.#main = {
      id: main.id,
      tty: main.tty,
      stdin: main.stdin,
      stdout: this.#outputs.stdout.watch(true),
      stderr: this.#outputs.stderr.watch(true),
      started: main.started,
      exit: main.exit,
      signal: (number) => this.signal(number),
      resize: (size) => main.resize(size),
    };
    session.hello.then(
      () => this.#time("hello"),
      () => {},
    );
    main.started.then(
      () => {
        this.#started = true;
        this.#time("started");
        if (this.#verdict === undefined) this.instance = updateStatus(this.instance, { state: "running" });
      },
      () => {},
    );
    // What ended without saying goodbye is not waited for any longer than this.
    main.exit.then(
      (exit) => this.#later(GRACE, () => this.#end(exit)),
      (error: Error) => this.#later(GRACE, () => session.abort(error)),
    );
    const stopWatching = watchBoot(session, this.#qemu?.pid ?? 0, config, (hang) => this.#end(hang));
    this.#undo.push(stopWatching);
  }

  /** Follows the session to its end and cleans up, whatever the end is. */
  async #watch(): Promise<void> {
    let exit: ProcessExit | null = null;
    let error: Error | null = null;
    try {
      exit = await (this.#session as Session).ended;
      this.#time("exit");
    } catch (reason) {
      error = reason as Error;
    }
    const lost = error instanceof GuestError && error.code === "GUEST_LOST";
    if (lost && this.#verdict === undefined) error = await this.#explain(error as GuestError);
    if (this.#verdict instanceof Error) {
      error = this.#verdict;
      exit = null;
    } else if (this.#verdict !== undefined && exit === null) {
      exit = this.#verdict;
      error = null;
    }
    await this.#clean(exit, error);
  }

  /** Why the connection to the guest ended without a word. */
  async #explain(lost: GuestError): Promise<Error> {
    const qemu = this.#qemu as BoundChild;
    // The connection closes a moment before QEMU has ended and said why.
    const end = await Promise.race([qemu.ended, delay(GRACE * 1000).then(() => null)]);
    await delay(20);
    return explainLoss({
      lost,
      qemu: end,
      tpmDied: this.#tpmDied,
      stop: this.#monitor?.stopped ?? null,
      qemuLog: tailOf(join(this.instance.directory, "qemu.log"), 600),
      lastWords: `${this.#outputs?.stdout.tail ?? ""}${this.#outputs?.stderr.tail ?? ""}`,
    });
  }

  /** Ends the machine from this side. */
  #end(verdict: ProcessExit | VmError): void {
    if (this.#verdict !== undefined) return;
    this.#verdict = verdict;
    this.#qemu?.kill("SIGKILL");
    this.#session?.abort(
      verdict instanceof VmError
        ? new GuestError("GUEST_LOST", "unavailable", verdict.message, { cause: verdict })
        : new GuestError("GUEST_LOST", "unavailable", "the instance was stopped"),
    );
  }

  /** A machine does not run without its TPM: whatever it would do next could not be vouched for. */
  #tpmEnded(): void {
    this.#tpmDied = true;
    if (this.#qemu === undefined) return;
    this.#later(1, () => {
      this.#end(new VmError("TPM_DIED", "unavailable", "the TPM of the guest (swtpm) ended while it ran"));
    });
  }

  #connect(port: number): ReturnType<Session["connect"]> {
    if (this.#session === undefined)
      throw new VmError("INSTANCE_NOT_RUNNING", "unavailable", "the guest is not up yet");
    return this.#session.connect(port);
  }

  /** Ends every process, closes every socket, removes every file that was only for the run, writes the end down. */
  async #clean(exit: ProcessExit | null, error: Error | null): Promise<void> {
    this.#abort.abort();
    for (const undo of this.#undo) undo();
    this.#qemu?.kill("SIGKILL");
    this.#tpm?.kill("SIGKILL");
    await Promise.all([this.#qemu?.ended, this.#tpm?.ended, this.#spare]);
    for (const timer of this.#timers) clearTimeout(timer);
    this.#sockets.close();
    const { directory, id, config } = this.instance;
    for (const name of RUN_FILES) {
      rmSync(join(directory, name), { recursive: true, force: true });
    }
    this.#log?.close();
    if (this.#paths !== undefined) removeRuntime(id);
    this.instance = updateStatus(this.instance, {
      state: "exited",
      finishedAt: new Date().toISOString(),
      exit,
      error: error === null ? null : errorRecord(error),
    });
    if (config.remove) eraseInstance(this.instance);
    this.#time("cleaned");
    this.#control?.close(exit, error);
    if (error === null && exit !== null) this.#settle.resolve({ exit, timings: this.#timings });
    else this.#settle.reject(error ?? new VmError("MACHINE_DIED", "bug", "the run ended without a result"));
  }

  #later(seconds: number, action: () => void): void {
    this.#timers.push(setTimeout(action, seconds * 1000));
  }

  #time(step: string): void {
    const timing: Timing = { side: "host", step, ms: performance.now() - this.#began };
    this.#timings.push(timing);
    this.#options.onTiming?.(timing);
  }
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
