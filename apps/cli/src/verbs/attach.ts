import { stateDirectory } from "@shelter/base";
import { exitStatus } from "@shelter/guest";
import { connectInstance, findInstance } from "@shelter/vm";
import { joinStreams, SignalRelay, terminalSize } from "../terminal-session.ts";

/** `shelter attach`: joins the main program; its exit code becomes ours. */
export async function attach(name: string, options: { stdin?: boolean }): Promise<void> {
  using signals = new SignalRelay();
  const instance = findInstance(stateDirectory(), name);
  const { tty } = instance.config;
  const stdin = options.stdin !== false && instance.config.stdin;
  const client = await connectInstance(instance);
  const main = client.attach({ stdin, tty });
  signals.connect((signal) => client.signal(signal));
  const size = terminalSize();
  if (tty && size !== undefined) main.resize(size);
  const joined = joinStreams(main, { stdin, tty });
  try {
    const exit = await main.exit;
    await joined;
    process.exitCode = exitStatus(exit);
  } finally {
    client.close();
  }
}
