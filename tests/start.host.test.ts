/** The main job as `npm start` runs it, and the same work as an ordinary user. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { busyboxLayer, dockerArchive } from "../tools/debian-images.ts";
import { noMachines } from "./support/shelter.ts";

const top = join(import.meta.dirname, "..");
const skip = noMachines() ?? false;

/** Processes that carry a mark in their environment. */
function marked(mark: string): string[] {
  return readdirSync("/proc").filter((pid) => {
    try {
      return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/environ`, "utf8").includes(mark);
    } catch {
      return false;
    }
  });
}

test("npm start seals, attests, runs and tampers, exits 0 and leaves nothing running", {
  skip,
  timeout: 900_000,
}, () => {
  const mark = `shelter-start-test-${process.pid}-${Date.now()}`;
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const result = spawnSync(process.execPath, ["--disable-warning=ExperimentalWarning", "tools/start.ts"], {
    cwd: top,
    env: { ...env, SHELTER_TEST_MARK: mark },
    encoding: "utf8",
  });
  assert.equal(result.status, 0, `${result.stdout}${result.stderr}`);
  assert.match(result.stdout, /the broker gave me: the word is petrichor/);
  assert.match(result.stdout, /exit code: 7/);
  assert.match(result.stderr, /root disk or its hash tree was altered/);
  assert.match(result.stdout, /refused .*ROOT_CORRUPTED/);
  assert.deepEqual(marked(mark), []);
});

const unprivileged =
  skip !== false
    ? skip
    : process.getuid?.() === 0
      ? false
      : "already an ordinary user: every other test shows it";

test("build and run need no root", { skip: unprivileged, timeout: 600_000 }, () => {
  const home = mkdtempSync(join(tmpdir(), "shelter-user-"));
  const runtime = join(home, "run");
  try {
    mkdirSync(runtime);
    writeFileSync(join(home, "shelter.yaml"), 'allow: { args: "*" }\nresources: { memory: 192MiB }\n');
    const archive = dockerArchive(join(home, "box.tar"), "box:1", [busyboxLayer()], {
      Cmd: ["/bin/id", "-u"],
      Env: ["PATH=/bin"],
    });
    for (const path of [home, runtime, archive]) chmodSync(path, 0o777);
    chmodSync(runtime, 0o700);
    spawnSync("chown", ["65534:65534", runtime]);
    const user = (...args: string[]): { status: number | null; stdout: string; stderr: string } =>
      spawnSync(
        "setpriv",
        ["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs", join(top, "shelter"), ...args],
        {
          cwd: home,
          env: {
            PATH: process.env["PATH"],
            HOME: home,
            XDG_RUNTIME_DIR: runtime,
            SHELTER_STATE: join(home, "state"),
          },
          encoding: "utf8",
        },
      );
    const probe = user("--version");
    if (probe.status !== 0) {
      // A checkout below a directory only root may enter cannot be used by anybody else.
      assert.match(probe.stderr, /EACCES|not found|Permission denied/);
      console.log(`# skipped: ${top} is not readable for an ordinary user`);
      return;
    }
    const built = user("build", "-q", "-f", "shelter.yaml", "-t", "box", `docker-archive:${archive}`);
    assert.equal(built.status, 0, built.stderr);
    const ran = user("run", "--rm", "--platform", "none", "box", "/bin/sh", "-c", "id -u; exit 4");
    assert.equal(ran.stdout, "0\n", ran.stderr);
    assert.equal(ran.status, 4);
    const measured = user("run", "--rm", "--platform", "vtpm", "box", "/bin/true");
    assert.equal(measured.status, 0, measured.stderr);
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});
