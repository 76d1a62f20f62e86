import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseJson, replaceFile, ShelterError } from "@shelter/base";
import type { Instance, InstanceConfig, InstanceStatus } from "./config.ts";
import { VmError } from "./errors.ts";
import { generateName, INSTANCE_NAME } from "./name.ts";
import { killMarked, stillRuns } from "./process-mark.ts";
import { removeRuntime } from "./runtime.ts";

const NEVER_RAN: InstanceStatus = {
  state: "created",
  startedAt: null,
  finishedAt: null,
  supervisor: null,
  qemu: null,
  exit: null,
  error: null,
};

/** What an instance has in its directory only while it runs. */
export const RUN_FILES: readonly string[] = ["tpm", "tpm.log", "firmware-variables"];

/** Directory of all instances. */
export function instancesDirectory(state: string): string {
  const path = join(state, "instances");
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

/** Makes an instance that has not run yet. Its name is reserved by this. */
export function createInstance(options: {
  readonly state: string;
  readonly name?: string | undefined;
  readonly config: InstanceConfig;
}): Instance {
  const root = instancesDirectory(options.state);
  const id = randomBytes(32).toString("hex");
  const directory = join(root, id);
  const names = namesDirectory(options.state);
  if (options.name !== undefined && !INSTANCE_NAME.test(options.name)) {
    throw new VmError(
      "INSTANCE_NAME",
      "usage",
      `${JSON.stringify(options.name)} is not a name: letters, digits, _ . - and at most 63 of them`,
    );
  }
  for (;;) {
    const name = options.name ?? generateName(new Set(readdirSync(names)));
    // The file of a name is made exclusively: two runs that want one name cannot both get it.
    try {
      writeFileSync(join(names, name), id, { flag: "wx", mode: 0o600 });
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== "EEXIST") throw cause;
      if (dropOrphan(root, names, name)) continue;
      if (options.name === undefined) continue;
      throw new VmError("INSTANCE_NAME_TAKEN", "usage", `the name ${name} is taken`, {
        hint: `choose another name, or remove that instance: shelter rm ${name}`,
      });
    }
    const instance: Instance = {
      id,
      name,
      directory,
      createdAt: new Date().toISOString(),
      config: options.config,
      status: NEVER_RAN,
    };
    try {
      mkdirSync(directory, { mode: 0o700 });
      save(instance);
    } catch (error) {
      rmSync(join(names, name), { force: true });
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
    return instance;
  }
}

/** Every instance, oldest first, as its processes truly are. */
export function listInstances(state: string): Instance[] {
  const found: Instance[] = [];
  for (const id of readdirSync(instancesDirectory(state))) {
    const instance = readInstance(join(instancesDirectory(state), id));
    if (instance !== null) found.push(instance);
  }
  return found.sort((a, b) => (a.createdAt < b.createdAt ? -1 : 1));
}

/** The instance of a name, an id or an unambiguous beginning of an id. */
export function findInstance(state: string, reference: string): Instance {
  const all = listInstances(state);
  const exact = all.find((i) => i.name === reference || i.id === reference);
  if (exact !== undefined) return exact;
  const matching = /^[0-9a-f]{1,64}$/.test(reference) ? all.filter((i) => i.id.startsWith(reference)) : [];
  if (matching.length > 1) {
    throw new VmError(
      "INSTANCE_AMBIGUOUS",
      "usage",
      `${reference} is the beginning of ${matching.length} ids`,
      {
        hint: `give more of it: ${matching.map((i) => `${i.id.slice(0, 12)} (${i.name})`).join(", ")}`,
      },
    );
  }
  const only = matching[0];
  if (only === undefined) {
    throw new VmError("INSTANCE_UNKNOWN", "usage", `no instance ${JSON.stringify(reference)}`, {
      hint: "shelter ps -a lists them",
    });
  }
  return only;
}

/** Reads an instance again. */
export function refreshInstance(instance: Instance): Instance {
  const fresh = readInstance(instance.directory);
  if (fresh === null) {
    throw new VmError("INSTANCE_UNKNOWN", "usage", `instance ${instance.name} is gone`);
  }
  return fresh;
}

/** Writes a new status and returns the instance with it. */
export function updateStatus(instance: Instance, change: Partial<InstanceStatus>): Instance {
  const next = { ...instance, status: { ...instance.status, ...change } };
  save(next);
  return next;
}

/** Whether an instance has processes. */
export function isAlive(instance: Instance): boolean {
  return instance.status.state === "starting" || instance.status.state === "running";
}

/** Removes an instance and all it left; a running one only by force, which kills it. */
export function removeInstance(instance: Instance, options: { readonly force: boolean }): void {
  const now = readInstance(instance.directory) ?? instance;
  if (isAlive(now)) {
    if (!options.force) {
      throw new VmError("INSTANCE_RUNNING", "usage", `instance ${now.name} is running`, {
        hint: `stop it first: shelter stop ${now.name}; or shelter rm -f ${now.name}`,
      });
    }
    killMarked(now.status.supervisor);
    killMarked(now.status.qemu);
  }
  eraseInstance(now);
}

/** Removes the files of an instance that is not running. */
export function eraseInstance(instance: Instance): void {
  removeRuntime(instance.id);
  rmSync(instance.directory, { recursive: true, force: true });
  const name = join(instance.directory, "..", "..", "names", instance.name);
  if (readText(name) === instance.id) rmSync(name, { force: true });
}

function namesDirectory(state: string): string {
  const path = join(state, "names");
  mkdirSync(path, { recursive: true, mode: 0o700 });
  return path;
}

/** A name whose instance never came to be, or was removed half. */
function dropOrphan(root: string, names: string, name: string): boolean {
  const path = join(names, name);
  const id = readText(path);
  if (id === "" || existsSync(join(root, id))) return false;
  rmSync(path, { force: true });
  return true;
}

function save(instance: Instance): void {
  replaceFile(
    join(instance.directory, "instance.json"),
    `${JSON.stringify({ version: 1, ...instance, directory: undefined }, null, 2)}\n`,
  );
}

/** Null for a directory that is no instance: being made, being removed, or not ours. */
function readInstance(directory: string): Instance | null {
  const text = readText(join(directory, "instance.json"));
  if (text === "") return null;
  const value: unknown = parseJson(text, join(directory, "instance.json"));
  if (!isStored(value)) {
    throw new VmError("INSTANCE_STATE", "malformed", `${directory}/instance.json is not an instance`);
  }
  const { id, name, createdAt, config, status } = value;
  const instance: Instance = { id, name, directory, createdAt, config, status };
  if (!isAlive(instance) || stillRuns(instance.status.supervisor)) return instance;
  // Whoever looked after it was killed. The kernel has killed the machine with it (`setpriv --pdeathsig`).
  killMarked(instance.status.qemu);
  removeRuntime(id);
  for (const file of RUN_FILES) rmSync(join(directory, file), { recursive: true, force: true });
  if (instance.config.remove) {
    eraseInstance(instance);
    return null;
  }
  return updateStatus(instance, {
    state: "exited",
    finishedAt: new Date().toISOString(),
    exit: { signal: 9 },
    error: {
      code: "MACHINE_DIED",
      kind: "unavailable",
      message: "the process that looked after this instance was killed, and the instance with it",
    },
  });
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}

type Stored = Omit<Instance, "directory">;

/** The file is our own and private; what is checked is what a half-written or older one would break. */
function isStored(value: unknown): value is Stored {
  if (typeof value !== "object" || value === null) return false;
  const v = value as Partial<Record<keyof Stored | "version", unknown>>;
  return (
    v.version === 1 &&
    typeof v.id === "string" &&
    typeof v.name === "string" &&
    typeof v.createdAt === "string" &&
    typeof v.config === "object" &&
    v.config !== null &&
    typeof v.status === "object" &&
    v.status !== null
  );
}

/** An error as `instance.json` keeps it. */
export function errorRecord(error: Error): NonNullable<Instance["status"]["error"]> {
  if (!(error instanceof ShelterError)) return { code: "BUG", kind: "bug", message: error.message };
  return {
    code: error.code,
    kind: error.kind,
    message: error.message,
    ...(error.hint === undefined ? {} : { hint: error.hint }),
  };
}
