/**
 * `shelter build` of a 500 MiB image against the two tools it rests on, `tar2sqfs` and `veritysetup`, with the same
 * settings on the tar that was flattened beforehand; in turn, so that a machine that drifts drifts for both. Then the
 * peak memory of the build, the tools it starts included.
 *
 * The image: 500 MiB of this host's own `/usr` (a Debian system's programs, libraries, text and compressed files, in
 * the order of their names), in three plain layers as `docker save` writes them; the last deletes some of the first.
 */
import { execFileSync, spawn, spawnSync } from "node:child_process";
import {
  closeSync,
  createWriteStream,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join } from "node:path";
import { flatten, openSource } from "@shelter/image";
import { TAR2SQFS_ARGS } from "@shelter/seal";
import { dockerArchive } from "../tools/debian-images.ts";

const ROUNDS = 5;
const MiB = 2 ** 20;
const TARGET_BYTES = 500 * MiB;
const COMMAND = join(import.meta.dirname, "../shelter");

function median(numbers: readonly number[]): number {
  return [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)] ?? Number.NaN;
}

/** Regular files of this host's programs and data until there are enough bytes of them. */
function hostFiles(): string[] {
  const files: string[] = [];
  let total = 0;
  const walk = (directory: string): void => {
    for (const entry of readdirSync(directory, { withFileTypes: true }).sort((a, b) =>
      a.name < b.name ? -1 : 1,
    )) {
      const path = join(directory, entry.name);
      if (total >= TARGET_BYTES) return;
      if (entry.isDirectory()) walk(path);
      else if (entry.isFile()) {
        const { size } = statSync(path);
        if (size > 64 * MiB) continue;
        files.push(path.slice(1));
        total += size;
      }
    }
  };
  for (const root of ["/usr/bin", "/usr/lib", "/usr/share", "/usr/include", "/usr/sbin"]) walk(root);
  return files;
}

function makeImage(directory: string): string {
  const files = hostFiles();
  const layers: string[] = [];
  for (let l = 0; l < 3; l++) {
    const list = join(directory, `list${l}`);
    writeFileSync(list, files.filter((_, i) => (i % 10 < 6 ? 0 : i % 10 < 9 ? 1 : 2) === l).join("\n"));
    const file = join(directory, `layer${l}.tar`);
    const owner = ["--owner=0", "--group=0", "--numeric-owner", "--hard-dereference"];
    execFileSync("tar", [...owner, "-C", "/", "-cf", file, "-T", list], {
      stdio: ["ignore", "ignore", "ignore"],
    });
    if (l === 2) {
      const root = join(directory, "gone");
      for (const path of files.filter((_, i) => i % 50 === 0)) {
        mkdirSync(join(root, dirname(path)), { recursive: true });
        writeFileSync(join(root, dirname(path), `.wh.${basename(path)}`), "");
      }
      execFileSync("tar", [...owner, "-C", root, "-rf", file, "."]);
    }
    layers.push(file);
  }
  const archive = dockerArchive(join(directory, "image.tar"), "bench:latest", layers, { Cmd: ["/bin/true"] });
  for (const file of layers) rmSync(file);
  return archive;
}

async function flatTar(archive: string, file: string): Promise<void> {
  const source = await openSource(`docker-archive:${archive}`);
  await (await flatten(source)).writeTar(createWriteStream(file));
  await source.close();
}

/** The peer: both tools, one after the other as they must be. */
function tools(tar: string, directory: string): number {
  const input = openSync(tar, "r");
  const root = join(directory, "peer.squashfs");
  const begun = performance.now();
  execFileSync("tar2sqfs", [...TAR2SQFS_ARGS, "--force", root], { stdio: [input, "ignore", "inherit"] });
  execFileSync("veritysetup", ["format", root, join(directory, "peer.verity")], {
    stdio: "ignore",
    env: { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin` },
  });
  const seconds = (performance.now() - begun) / 1000;
  closeSync(input);
  return seconds;
}

function shelter(archive: string, state: string): number {
  const begun = performance.now();
  const result = spawnSync(COMMAND, ["build", "-t", "bench", `docker-archive:${archive}`], {
    env: { ...process.env, SHELTER_STATE: state },
    encoding: "utf8",
  });
  if (result.status !== 0) throw new Error(`shelter build ended with ${result.status}: ${result.stderr}`);
  const seconds = (performance.now() - begun) / 1000;
  spawnSync(COMMAND, ["rmi", "bench"], { env: { ...process.env, SHELTER_STATE: state }, stdio: "ignore" });
  return seconds;
}

/** Resident bytes of a process and all below it. */
function residentTree(pid: number): number {
  let bytes = 0;
  try {
    bytes =
      Number(/^VmRSS:\s+([0-9]+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0) * 1024;
    for (const task of readdirSync(`/proc/${pid}/task`)) {
      for (const child of readFileSync(`/proc/${pid}/task/${task}/children`, "utf8").trim().split(" ")) {
        if (child !== "") bytes += residentTree(Number(child));
      }
    }
  } catch {
    return bytes; // it ended while we looked
  }
  return bytes;
}

function peakMemory(archive: string, directory: string): Promise<number> {
  const state = mkdtempSync(join(directory, "state-"));
  return new Promise((done, failed) => {
    const child = spawn(COMMAND, ["build", "-t", "bench", `docker-archive:${archive}`], {
      env: { ...process.env, SHELTER_STATE: state },
      stdio: "ignore",
    });
    let peak = 0;
    const timer = setInterval(() => {
      if (child.pid !== undefined) peak = Math.max(peak, residentTree(child.pid));
    }, 25);
    child.once("error", failed);
    child.once("close", () => {
      clearInterval(timer);
      rmSync(state, { recursive: true });
      done(peak);
    });
  });
}

/** Prints the ratio of the times and the peak memory. */
export async function run(): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), "shelter-bench-"));
  try {
    const archive = makeImage(directory);
    const tar = join(directory, "flat.tar");
    await flatTar(archive, tar);
    console.log(`image: ${(statSync(archive).size / MiB).toFixed(0)} MiB in three layers`);
    const state = mkdtempSync(join(directory, "state-"));
    shelter(archive, state); // the initrd is made once per kernel and agent
    const ours: number[] = [];
    const theirs: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      theirs.push(tools(tar, directory));
      ours.push(shelter(archive, state));
    }
    const show = (list: readonly number[]): string => list.map((s) => `${s.toFixed(2)} s`).join(", ");
    console.log(`tar2sqfs + veritysetup on the flattened tar: ${show(theirs)}`);
    console.log(`shelter build:                               ${show(ours)}`);
    console.log(`ratio of the medians: ${(median(ours) / median(theirs)).toFixed(2)} (at most 1.30)`);
    const peak = await peakMemory(archive, directory);
    console.log(`peak memory, tools included: ${(peak / MiB).toFixed(0)} MiB (under 300)`);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
