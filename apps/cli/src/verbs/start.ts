import { ShelterError, stateDirectory } from "@shelter/base";
import { findInstance, isAlive, startDetached } from "@shelter/vm";
import { printJson } from "../terminal.ts";
import { attach } from "./attach.ts";

/** `shelter start`: boots stopped instances again, with the configuration they were made with. */
export async function start(
  names: readonly string[],
  options: { attach?: boolean; interactive?: boolean; json?: boolean },
): Promise<void> {
  const state = stateDirectory();
  if (options.attach === true && names.length > 1) {
    throw new ShelterError("RUN_OPTION", "usage", "only one instance can be attached to");
  }
  const started: object[] = [];
  for (const name of names) {
    const instance = findInstance(state, name);
    if (!isAlive(instance)) await startDetached(instance);
    started.push({ id: instance.id, name: instance.name });
    if (options.json !== true && options.attach !== true) process.stdout.write(`${instance.name}\n`);
  }
  if (options.json === true) printJson(started);
  if (options.attach === true) await attach(names[0] ?? "", { stdin: options.interactive === true });
}
