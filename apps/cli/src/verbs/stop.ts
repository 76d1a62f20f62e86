import { describe, ShelterError, stateDirectory } from "@shelter/base";
import { exitStatus, type ProcessExit } from "@shelter/guest";
import {
  connectInstance,
  findInstance,
  type Instance,
  isAlive,
  refreshInstance,
  removeInstance,
} from "@shelter/vm";
import { report } from "../failure.ts";
import { printJson } from "../terminal.ts";
import { signalNumber } from "../terminal-session.ts";

/** Does something to each instance; one that fails is reported and does not keep the others from it. */
async function each(
  names: readonly string[],
  json: boolean | undefined,
  act: (instance: Instance) => Promise<object>,
  text: (done: object, instance: Instance) => string,
): Promise<void> {
  const state = stateDirectory();
  const done: object[] = [];
  for (const name of names) {
    try {
      const instance = findInstance(state, name);
      const result = await act(instance);
      done.push({ id: instance.id, name: instance.name, ...result });
      if (json !== true) process.stdout.write(`${text(result, instance)}\n`);
    } catch (error) {
      process.exitCode = report(error, json === true);
    }
  }
  if (json === true) printJson(done);
}

/** Waits for a running instance's end; one that could not run has no exit code of a program. */
async function endOf(instance: Instance): Promise<ProcessExit> {
  if (isAlive(refreshInstance(instance))) {
    const client = await connectInstance(instance);
    try {
      return await client.wait();
    } finally {
      client.close();
    }
  }
  const { exit, error } = refreshInstance(instance).status;
  if (error !== null)
    throw new ShelterError(error.code, "unavailable", `${instance.name} did not run: ${error.message}`);
  if (exit === null)
    throw new ShelterError("INSTANCE_NOT_RUNNING", "usage", `instance ${instance.name} has never run`);
  return exit;
}

/** `shelter wait`. */
export async function wait(names: readonly string[], options: { json?: boolean }): Promise<void> {
  await each(
    names,
    options.json,
    async (instance) => ({ exitCode: exitStatus(await endOf(instance)) }),
    (done) => String((done as { exitCode: number }).exitCode),
  );
}

/** `shelter stop`: SIGTERM, and SIGKILL for what has not ended by then. Stopping what has ended is no error. */
export async function stop(
  names: readonly string[],
  options: { time: number; json?: boolean },
): Promise<void> {
  await each(
    names,
    options.json,
    async (instance) => {
      if (!isAlive(instance)) return { stopped: false };
      const client = await connectInstance(instance);
      try {
        client.stop(options.time);
        await client.wait().catch((error: unknown) => {
          // It is gone, which is what was asked for; why is in its record.
          if (isAlive(refreshInstance(instance))) throw new Error(describe(error), { cause: error });
        });
      } finally {
        client.close();
      }
      return { stopped: true };
    },
    (_, instance) => instance.name,
  );
}

/** `shelter kill`. */
export async function kill(
  names: readonly string[],
  options: { signal: string; json?: boolean },
): Promise<void> {
  const signal = signalNumber(options.signal);
  await each(
    names,
    options.json,
    async (instance) => {
      const client = await connectInstance(instance);
      try {
        client.signal(signal);
        if (signal === 9) await client.wait().catch(() => undefined);
      } finally {
        client.close();
      }
      return { signal };
    },
    (_, instance) => instance.name,
  );
}

/** `shelter rm`. */
export async function remove(
  names: readonly string[],
  options: { force?: boolean; json?: boolean },
): Promise<void> {
  await each(
    names,
    options.json,
    async (instance) => {
      if (isAlive(instance) && options.force === true) {
        // Asked to end first, so that it takes its sockets and processes with it; killed if it does not answer.
        const client = await connectInstance(instance).catch(() => undefined);
        if (client !== undefined) {
          client.signal(9);
          await Promise.race([
            client.wait().catch(() => undefined),
            new Promise((resolve) => setTimeout(resolve, 15_000).unref()),
          ]);
          client.close();
        }
      }
      removeInstance(instance, { force: options.force === true });
      return { removed: true };
    },
    (_, instance) => instance.name,
  );
}
