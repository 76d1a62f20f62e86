/**
 * `shelter run … true`, attestation included, against bare QEMU with the same firmware, kernel, memory and processor and
 * an init that powers off; in turn, so that a machine that drifts drifts for both. Then the memory of an instance
 * besides QEMU, and eight instances at once.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { finished, noMachines, Sandbox, until } from "../tests/support/shelter.ts";
import { busyboxLayer, dockerArchive } from "../tools/debian-images.ts";

const ROUNDS = 5;

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
}

/** An initrd whose only program powers the machine off at once. */
function bareInitrd(sandbox: Sandbox): string {
  const root = sandbox.path("bare");
  mkdirSync(join(root, "bin"), { recursive: true });
  cpSync("/bin/busybox", join(root, "bin/busybox"));
  writeFileSync(join(root, "init"), "#!/bin/busybox sh\nexec /bin/busybox poweroff -f\n", { mode: 0o755 });
  const file = sandbox.path("bare.cpio");
  execFileSync("sh", ["-c", `cd "$1" && find . | cpio --quiet -o -H newc >"$2"`, "sh", root, file]);
  return file;
}

/** Keeps of Shelter's own command line what a bare machine has too: processor, memory, firmware, kernel. */
function bareCommand(argv: readonly string[], initrd: string, vars: string): string[] {
  const kept: string[] = [];
  const take = new Set(["-M", "-machine", "-accel", "-cpu", "-m", "-smp", "-kernel"]);
  for (let i = 0; i < argv.length; i++) {
    const flag = argv[i] ?? "";
    const value = argv[i + 1] ?? "";
    if (take.has(flag)) kept.push(flag, value);
    else if (flag === "-drive" && value.includes("if=pflash")) {
      kept.push(flag, value.includes("readonly=on") ? value : value.replace(/file=[^,]*/, `file=${vars}`));
    }
  }
  return [
    ...kept,
    "-nodefaults",
    "-no-reboot",
    "-display",
    "none",
    "-initrd",
    initrd,
    "-append",
    "quiet panic=-1 loglevel=1 console=null",
  ];
}

function seconds(run: () => void): number {
  const begun = performance.now();
  run();
  return (performance.now() - begun) / 1000;
}

/** Resident memory of a process in MiB, or 0 when it has gone. */
function resident(pid: number): number {
  try {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

/** Processes whose environment names the sandbox's state, by name. */
function processesOf(sandbox: Sandbox): { pid: number; name: string }[] {
  const found: { pid: number; name: string }[] = [];
  for (const entry of readdirSync("/proc")) {
    const pid = Number(entry);
    if (!Number.isInteger(pid) || pid === process.pid) continue;
    try {
      if (!readFileSync(`/proc/${pid}/environ`, "utf8").includes(sandbox.directory)) continue;
      found.push({ pid, name: readFileSync(`/proc/${pid}/comm`, "utf8").trim() });
    } catch {
      // Gone meanwhile, or not ours to read.
    }
  }
  return found;
}

/** Runs the benchmark and prints its figures. */
export async function run(): Promise<void> {
  const reason = noMachines();
  if (reason !== undefined) throw new Error(reason);
  using sandbox = new Sandbox();
  await sandbox.broker();
  const brokerPids = new Set(processesOf(sandbox).map((p) => p.pid));
  writeFileSync(sandbox.path("shelter.yaml"), 'allow: { args: "*" }\nresources: { memory: 256MiB }\n');
  const archive = dockerArchive(sandbox.path("box.tar"), "box:1", [busyboxLayer()], {
    Cmd: ["/bin/true"],
    Env: ["PATH=/bin"],
  });
  sandbox.ok(["build", "-q", "-f", "shelter.yaml", "-t", "box", `docker-archive:${archive}`]);
  sandbox.ok(["broker", "reference", "set"], { input: sandbox.ok(["measure", "box", "--reference"]) });

  const argv = (
    JSON.parse(sandbox.ok(["run", "--dry-run", "--json", "--platform", "vtpm", "box"])) as { argv: string[] }
  ).argv;
  const qemu = argv.find((a) => a.includes("qemu-system")) ?? "qemu-system-x86_64";
  const vars = sandbox.path("vars.fd");
  cpSync("/usr/share/OVMF/OVMF_VARS_4M.fd", vars);
  const bare = bareCommand(argv, bareInitrd(sandbox), vars);
  const ours = ["run", "--rm", "--platform", "vtpm", "box", "true"];
  const runBare = (): void => {
    const result = spawnSync(qemu, bare, { timeout: 300_000 });
    if (result.status !== 0) throw new Error(`bare QEMU ended with ${result.status}: ${result.stderr}`);
  };
  runBare();
  sandbox.ok(ours);
  const pairs: [number, number][] = [];
  for (let i = 0; i < ROUNDS; i++) pairs.push([seconds(() => sandbox.ok(ours)), seconds(runBare)]);
  const ratio = median(pairs.map(([a, b]) => a / b));
  console.log(`shelter run … true   ${median(pairs.map(([a]) => a)).toFixed(2)} s (median of ${ROUNDS})`);
  console.log(`bare QEMU            ${median(pairs.map(([, b]) => b)).toFixed(2)} s`);
  console.log(`ratio                ${ratio.toFixed(2)} (aim: at most 1.25)`);
  console.log(
    sandbox.run(["run", "--rm", "--timings", "--platform", "vtpm", "box", "true"]).stderr.trimEnd(),
  );

  const child = sandbox.start(["run", "--rm", "--platform", "vtpm", "box", "sleep", "20"]);
  const end = finished(child);
  await until("the program runs", () => sandbox.run(["ps", "--json"]).stdout.includes('"running"'));
  const parts = processesOf(sandbox).filter((p) => !brokerPids.has(p.pid) && !p.name.startsWith("qemu"));
  const memory = parts.reduce((sum, p) => sum + resident(p.pid), 0);
  const list = parts.map((p) => `${p.name} ${resident(p.pid).toFixed(0)}`).join(", ");
  console.log(`memory besides QEMU  ${memory.toFixed(0)} MiB (${list}; aim: under 90)`);
  child.kill("SIGKILL");
  await end;

  const begun = performance.now();
  const eight = await Promise.all(
    Array.from({ length: 8 }, () =>
      finished(spawn(join(import.meta.dirname, "../shelter"), ours, { env: sandbox.env })),
    ),
  );
  const good = eight.filter((r) => r.status === 0).length;
  console.log(
    `eight at once        ${good} of 8 succeed, ${((performance.now() - begun) / 1000).toFixed(1)} s in all`,
  );
}
