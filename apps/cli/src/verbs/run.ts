import { ShelterError, stateDirectory } from "@shelter/base";
import { exitStatus } from "@shelter/guest";
import {
  createInstance,
  eraseInstance,
  probeHost,
  qemuCommand,
  runInstance,
  startDetached,
  type Timing,
} from "@shelter/vm";
import { planRun, type RunOptions } from "../run-config.ts";
import { printJson, styled, table } from "../terminal.ts";
import { joinStreams, requireTerminal, SignalRelay, terminalSize } from "../terminal-session.ts";

/** `shelter run`. */
export async function run(name: string, args: readonly string[], options: RunOptions): Promise<void> {
  const began = performance.now() - process.uptime() * 1000;
  if (options.detach === true && options.timings === true) {
    throw new ShelterError("RUN_OPTION", "usage", "--timings needs the foreground", {
      hint: "shelter status shows the steps of a background instance",
    });
  }
  requireTerminal(options);
  using signals = new SignalRelay();
  const state = stateDirectory();
  const host = await probeHost({ state });
  const { config, choice } = planRun(state, name, args, options, host);
  if (options.dryRun === true) {
    const runtime = "/run/shelter/INSTANCE";
    const { argv, notices } = qemuCommand(
      config,
      {
        agentSocket: `${runtime}/agent`,
        monitorSocket: `${runtime}/monitor`,
        tpmSocket: `${runtime}/tpm`,
        variables: `${runtime}/firmware-variables`,
      },
      { ...host, qemu: host.qemu?.path ?? "qemu-system-x86_64" },
    );
    if (options.json === true) printJson({ argv, notices: [...choice.notices, ...notices] });
    else process.stdout.write(`${quoteCommand(argv)}\n`);
    return;
  }
  for (const notice of choice.notices) {
    process.stderr.write(`${styled("yellow", "shelter:", process.stderr)} ${notice}\n`);
  }
  const instance = createInstance({ state, name: options.name, config });
  if (options.detach === true) {
    try {
      await startDetached(instance);
    } catch (error) {
      if (config.remove) eraseInstance(instance);
      throw error;
    }
    if (options.json === true) printJson({ id: instance.id, name: instance.name });
    else process.stdout.write(`${instance.id}\n`);
    return;
  }
  process.exitCode = await foreground();

  async function foreground(): Promise<number> {
    const timings: Timing[] = [];
    const running = await runInstance(instance, {
      size: terminalSize(),
      began,
      onTiming: (timing) => timings.push(timing),
    });
    signals.connect((signal) => running.signal(signal));
    const joined = joinStreams(running.main, { stdin: config.stdin, tty: config.tty });
    const end = await running.ended.finally(() => joined);
    if (options.timings === true) showTimings(timings, options.json === true);
    return exitStatus(end.exit);
  }
}

/** A command line as a shell would read it back, one option a line. */
function quoteCommand(argv: readonly string[]): string {
  const quoted = argv.map((a) => (/^[\w@%+=:,./-]+$/.test(a) ? a : `'${a.replaceAll("'", "'\\''")}'`));
  return quoted
    .map((a, i) => (i === 0 ? a : a.startsWith("-") && a.length > 1 ? ` \\\n  ${a}` : ` ${a}`))
    .join("");
}

function showTimings(timings: readonly Timing[], json: boolean): void {
  if (json) {
    process.stderr.write(`${JSON.stringify({ timings })}\n`);
    return;
  }
  for (const side of ["host", "guest"] as const) {
    let before = 0;
    const rows = timings
      .filter((t) => t.side === side)
      .map((t) => {
        const row = [t.step, `${Math.round(t.ms)} ms`, `+${Math.round(t.ms - before)}`];
        before = t.ms;
        return row;
      });
    const since = side === "host" ? "the command began" : "its kernel started";
    process.stderr.write(
      `${styled("bold", `${side}, since ${since}`, process.stderr)}\n${table(["STEP", "AT", "TOOK"], rows)}`,
    );
  }
}
