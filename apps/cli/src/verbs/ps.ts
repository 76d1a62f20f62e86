import { stateDirectory } from "@shelter/base";
import { exitStatus } from "@shelter/guest";
import { connectInstance, findInstance, type Instance, isAlive, listInstances } from "@shelter/vm";
import { ago, printable, printJson, size, styled, table } from "../terminal.ts";

function summary(instance: Instance): object {
  const { config, status } = instance;
  return {
    id: instance.id,
    name: instance.name,
    image: config.image.name,
    identity: config.image.identity,
    platform: config.platform,
    state: status.state,
    exitCode: status.exit === null ? null : exitStatus(status.exit),
    error: status.error,
    createdAt: instance.createdAt,
    startedAt: status.startedAt,
    finishedAt: status.finishedAt,
    ports: config.ports,
  };
}

function stateWords(instance: Instance, now: number): string {
  const { status } = instance;
  if (status.state === "exited") {
    const when = status.finishedAt === null ? "" : ` ${ago(Date.parse(status.finishedAt), now)}`;
    if (status.error !== null) return `failed (${status.error.code})${when}`;
    return `exited (${status.exit === null ? "?" : exitStatus(status.exit)})${when}`;
  }
  return status.state;
}

/** `shelter ps`. */
export function ps(options: { all?: boolean; quiet?: boolean; json?: boolean }): void {
  const found = listInstances(stateDirectory()).filter((i) => options.all === true || isAlive(i));
  if (options.json === true) {
    printJson(found.map(summary));
    return;
  }
  if (options.quiet === true) {
    for (const instance of found) process.stdout.write(`${instance.id}\n`);
    return;
  }
  const now = Date.now();
  const rows = found.map((i) => [
    i.id.slice(0, 12),
    printable(i.config.image.name),
    i.config.platform,
    stateWords(i, now),
    ago(Date.parse(i.createdAt), now),
    i.config.ports.map((p) => `${p.address}:${p.hostPort}->${p.guestPort}`).join(", "),
    i.name,
  ]);
  process.stdout.write(table(["ID", "IMAGE", "PLATFORM", "STATE", "CREATED", "PORTS", "NAME"], rows));
}

/** `shelter status`: one instance in full. */
export async function status(name: string, options: { json?: boolean }): Promise<void> {
  const instance = findInstance(stateDirectory(), name);
  const stats = isAlive(instance) ? await memoryOf(instance) : null;
  if (options.json === true) {
    printJson({ ...summary(instance), memory: instance.config.memory, cpus: instance.config.cpus, stats });
    return;
  }
  const { config, status: now } = instance;
  const rows: [string, string][] = [
    ["name", instance.name],
    ["id", instance.id],
    ["image", `${printable(config.image.name)} (${config.image.identity})`],
    ["state", stateWords(instance, Date.now())],
    ["platform", `${config.platform}, ${config.accelerator === "kvm" ? "KVM" : "emulated"}`],
    ["machine", `${config.cpus} CPU${config.cpus === 1 ? "" : "s"}, ${size(config.memory)}`],
    ["broker", config.broker?.url ?? "none"],
  ];
  if (now.error !== null) rows.push(["error", styled("red", printable(now.error.message))]);
  if (stats !== null) {
    rows.push(["memory", `machine ${size(stats.machine)}, besides it ${size(stats.supervisor + stats.tpm)}`]);
    for (const t of stats.timings) rows.push([`${t.side} step`, `${t.step} at ${Math.round(t.ms)} ms`]);
  }
  process.stdout.write(rows.map(([k, v]) => `${k.padEnd(11)}${v}\n`).join(""));
}

async function memoryOf(
  instance: Instance,
): Promise<Awaited<ReturnType<Awaited<ReturnType<typeof connectInstance>>["stats"]>> | null> {
  const client = await connectInstance(instance);
  try {
    return await client.stats();
  } finally {
    client.close();
  }
}
