/**
 * The main job, end to end, with what a person would type: seal an image, start a broker, run the image in a measured
 * machine, watch it receive its secret, then alter one byte and watch it receive nothing.
 * Everything it makes lives in a temporary state directory and is gone at the end.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readFileSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { busyboxLayer, dockerArchive } from "./debian-images.ts";

const colour = process.stdout.isTTY && !process.env["NO_COLOR"];
const bold = (text: string): string => (colour ? `\x1b[1m${text}\x1b[0m` : text);
const dim = (text: string): string => (colour ? `\x1b[2m${text}\x1b[0m` : text);

const top = join(import.meta.dirname, "..");
const work = mkdtempSync(join(tmpdir(), "shelter-start-"));
const env: NodeJS.ProcessEnv = { ...process.env, SHELTER_STATE: join(work, "state"), XDG_RUNTIME_DIR: work };
const children = new Set<ChildProcess>();

let step = "";

function say(title: string): void {
  step = title;
  console.log(`\n${bold(`── ${title}`)}`);
}

interface Shown {
  readonly status: number;
  readonly output: string;
}

/** Shows a command as a person would type it, runs it, and lets it speak for itself. */
async function shelter(
  args: readonly string[],
  options: { input?: string; quiet?: boolean; env?: NodeJS.ProcessEnv } = {},
): Promise<Shown> {
  const typed = args.map((a) => (/[^\w@%+=:,./-]/.test(a) ? `'${a}'` : a.replace(work, "…")));
  console.log(`${dim("$")} shelter ${typed.join(" ")}`);
  const child = spawn(join(top, "shelter"), args, {
    cwd: top,
    env: options.env ?? env,
    stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
  });
  children.add(child);
  let output = "";
  child.stdout?.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    if (options.quiet !== true) process.stdout.write(chunk);
  });
  child.stderr?.on("data", (chunk: Buffer) => {
    output += chunk.toString();
    if (options.quiet !== true) process.stderr.write(chunk);
  });
  if (options.input !== undefined) child.stdin?.end(options.input);
  const status = await new Promise<number>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (code, signal) => resolve(code ?? (signal === null ? 1 : 128)));
  });
  children.delete(child);
  return { status, output };
}

function expect(condition: boolean, what: string): void {
  if (!condition) throw new Error(what);
}

/** Starts the broker and waits until it says where it listens. */
async function startBroker(): Promise<string> {
  console.log(`${dim("$")} shelter serve --trust-local-tpm &`);
  const child = spawn(
    join(top, "shelter"),
    ["serve", "--listen", "127.0.0.1:0", "--trust-local-tpm", "--json"],
    {
      cwd: top,
      env,
      stdio: ["ignore", "pipe", "pipe"],
    },
  );
  children.add(child);
  let output = "";
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on("data", (chunk: Buffer) => {
      output += chunk.toString();
      const found = /"url":"([^"]+)"/.exec(output)?.[1];
      if (found !== undefined) resolve(found);
    });
    child.stderr.on("data", (chunk: Buffer) => {
      output += chunk.toString();
    });
    child.on("exit", (code) => reject(new Error(`the broker ended with ${code}: ${output.slice(-2000)}`)));
  });
  console.log(`the broker listens on ${url}`);
  return url;
}

async function stopAll(): Promise<void> {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = new Promise((resolve) => child.on("exit", resolve));
    child.kill("SIGTERM");
    const timer = setTimeout(() => child.kill("SIGKILL"), 10_000);
    await ended;
    clearTimeout(timer);
  }
  rmSync(work, { recursive: true, force: true });
}

/** Flips the lowest bit of one byte of a file. */
function alterOneByte(file: string, offset: number): void {
  const fd = openSync(file, "r+");
  try {
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, offset);
    byte[0] = (byte[0] ?? 0) ^ 1;
    writeSync(fd, byte, 0, 1, offset);
  } finally {
    closeSync(fd);
  }
}

async function tour(): Promise<void> {
  const example = "examples/hello";

  say("A container image, as docker save writes it");
  const motd = "nobody has altered me\n";
  const archive = dockerArchive(
    join(work, "hello.tar"),
    "hello:1",
    [
      busyboxLayer({
        "app.sh": { content: readFileSync(join(top, example, "app.sh")), mode: 0o755 },
        "etc/motd": { content: motd },
      }),
    ],
    { Entrypoint: ["/app.sh"], Env: ["PATH=/bin"] },
  );
  console.log(`${archive.replace(work, "…")}, made from Debian's busybox`);

  say("Seal it: kernel, initrd, read-only root and manifest with one identity");
  const built = await shelter([
    "build",
    "-f",
    join(example, "shelter.yaml"),
    "-t",
    "hello",
    `docker-archive:${archive}`,
  ]);
  expect(built.status === 0, "the image could not be sealed");

  say("Predict what it must measure, before it ever ran");
  const measured = await shelter(["measure", "hello"]);
  expect(measured.status === 0, "the measurements could not be predicted");

  say("Start a broker; give it the secret, the reference values, and a policy that names the workload");
  const url = await startBroker();
  env["SHELTER_BROKER"] = url;
  const reference = await shelter(["measure", "hello", "--reference"], { quiet: true });
  const secret = "the word is petrichor";
  for (const [args, input] of [
    [["broker", "secret", "set", "kbs:///demo/token/greeting"], secret],
    [["broker", "reference", "set"], reference.output],
    [["broker", "policy", "allow", "hello", "kbs:///demo/token/greeting"], undefined],
  ] as const) {
    const done = await shelter(args, input === undefined ? {} : { input });
    expect(done.status === 0, `shelter ${args.join(" ")} failed`);
  }

  say("Run it: boot, prove, receive, speak");
  const run = await shelter(["run", "--rm", "--timings", "hello"]);
  console.log(`exit code: ${bold(String(run.status))}`);
  expect(run.status === 7, "the program's exit code did not come back");
  expect(run.output.includes(secret), "the secret did not reach the program");

  say("Alter one byte of what was sealed, and run it again");
  const inspected = await shelter(["inspect", "hello", "--json"], { quiet: true });
  const [image] = JSON.parse(inspected.output) as [
    { directory: string; manifest: { root: { squashfs: { size: number } } } },
  ];
  alterOneByte(join(image.directory, "root.squashfs"), Math.floor(image.manifest.root.squashfs.size / 2));
  console.log("one bit of root.squashfs is now another");
  const altered = await shelter(["run", "--rm", "hello"]);
  console.log(`exit code: ${bold(String(altered.status))}`);
  expect(altered.status !== 0 && altered.status !== 7, "an altered image ran");
  expect(!altered.output.includes(secret), "an altered image received the secret");

  say("What the broker has to say about it");
  expect((await shelter(["broker", "sessions"])).status === 0, "the broker does not list its sessions");
  expect((await shelter(["broker", "audit", "verify"])).status === 0, "the audit log does not verify");
}

let stopping = false;
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.on(signal, () => {
    if (stopping) return;
    stopping = true;
    void stopAll().then(() => process.exit(signal === "SIGINT" ? 130 : 143));
  });
}

try {
  await tour();
  await stopAll();
  console.log(
    `\n${bold("All of it worked.")} Nothing is left running. Next: ./shelter --help, README.md, examples/.`,
  );
} catch (error) {
  if (!stopping) {
    console.error(`\nfailed at: ${step}\n  ${error instanceof Error ? error.message : String(error)}`);
    console.error(
      "  what to do: ./shelter doctor tells what this host lacks; build/setup.log has the set-up's words",
    );
    await stopAll();
    process.exitCode = 1;
  }
}
