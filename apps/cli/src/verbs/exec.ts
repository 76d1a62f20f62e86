import { stateDirectory } from "@shelter/base";
import { exitStatus } from "@shelter/guest";
import { ImageStore, refuseExec } from "@shelter/seal";
import { connectInstance, findInstance } from "@shelter/vm";
import { parseEnv, refusal } from "../run-config.ts";
import { joinStreams, requireTerminal, SignalRelay, terminalSize } from "../terminal-session.ts";

interface ExecOptions {
  readonly interactive?: boolean;
  readonly tty?: boolean;
  readonly env: readonly string[];
}

/** `shelter exec`: one more command in a running instance; its exit code becomes ours. */
export async function exec(name: string, argv: readonly string[], options: ExecOptions): Promise<void> {
  requireTerminal(options);
  using signals = new SignalRelay();
  const state = stateDirectory();
  const instance = findInstance(state, name);
  const { manifest } = new ImageStore(state).inspect(instance.config.image.identity);
  const refused = refuseExec(manifest, argv);
  if (refused !== undefined) throw refusal(refused.key, refused.reason);
  const client = await connectInstance(instance);
  const tty = options.tty === true;
  const stdin = options.interactive === true;
  const process_ = client.exec({
    argv,
    env: parseEnv(options.env, process.env),
    tty,
    stdin,
    size: terminalSize(),
  });
  signals.connect((signal) => process_.signal(signal));
  const joined = joinStreams(process_, { stdin, tty });
  try {
    const exit = await process_.exit;
    await joined;
    process.exitCode = exitStatus(exit);
  } finally {
    client.close();
  }
}
