/** A sealed program behaves as if it ran here: streams, exit codes, signals, terminal, arguments. Platform `none`. */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { busyboxLayer, dockerArchive } from "../tools/debian-images.ts";
import { finished, noMachines, Sandbox, until } from "./support/shelter.ts";

const skip = noMachines();
const COMMAND = join(import.meta.dirname, "../shelter");

const MANIFEST = `
allow:
  args: "*"
  env: [GREETING, "APP_*"]
  exec:
    - [/bin/echo, "**"]
    - [/bin/sh, -c, "*"]
  mounts:
    - { target: /data, readOnly: false }
    - { target: /ro, readOnly: true }
ports: [8000]
resources: { memory: 192MiB, writable: 64MiB }
`;

describe("a sealed program", { skip: skip ?? false, timeout: 1_500_000 }, () => {
  let sandbox: Sandbox;
  const none = ["--platform", "none"];

  before(() => {
    sandbox = new Sandbox();
    writeFileSync(sandbox.path("shelter.yaml"), MANIFEST);
    const archive = dockerArchive(sandbox.path("box.tar"), "box:1", [busyboxLayer()], {
      Entrypoint: [],
      Cmd: ["/bin/sh", "-c", "echo default; exit 3"],
      Env: ["PATH=/bin", "FROM_IMAGE=yes"],
      WorkingDir: "/tmp",
    });
    sandbox.ok(["build", "-q", "-f", "shelter.yaml", "-t", "box", `docker-archive:${archive}`]);
  });

  after(() => sandbox?.[Symbol.dispose]());

  test("runs the image's own command with its environment, and its exit code comes back", () => {
    const result = sandbox.run(["run", "--rm", ...none, "box"]);
    assert.equal(result.stdout, "default\n");
    assert.equal(result.status, 3);
    assert.match(result.stderr, /none/, "choosing no evidence is said");
  });

  test("keeps stdout and stderr apart, arguments untouched, and the image's environment and directory", () => {
    const script = 'printf "<%s>" "$@"; echo; echo "$FROM_IMAGE $GREETING $PWD" >&2; exit 42';
    const odd = ["a b", "", "'q\"", "$HOME", "line\nbreak", "*", "ünï", "-x", "--"];
    const result = sandbox.run([
      "run",
      "--rm",
      ...none,
      "-e",
      "GREETING=hi there",
      "box",
      "/bin/sh",
      "-c",
      script,
      "sh",
      ...odd,
    ]);
    assert.equal(result.stdout, `${odd.map((a) => `<${a}>`).join("")}\n`);
    assert.ok(result.stderr.endsWith("yes hi there /tmp\n"), result.stderr);
    assert.equal(result.status, 42);
  });

  test("passes 100 MiB through cat unchanged", () => {
    const data = randomBytes(100 << 20);
    const digest = createHash("sha256").update(data).digest("hex");
    writeFileSync(sandbox.path("in.bin"), data);
    const script = `"$1" run --rm -i --platform none box cat <in.bin 2>err.txt | sha256sum`;
    const result = spawnSync("bash", ["-o", "pipefail", "-c", script, "bash", COMMAND], {
      cwd: sandbox.directory,
      env: sandbox.env,
      encoding: "utf8",
    });
    assert.equal(result.status, 0, readFileSync(sandbox.path("err.txt"), "utf8"));
    assert.equal(result.stdout.slice(0, 64), digest);
  });

  test("a program ended by a signal gives 128 and the signal", () => {
    assert.equal(sandbox.run(["run", "--rm", ...none, "box", "/bin/sh", "-c", "kill -SEGV $$"]).status, 139);
  });

  test("signals to the command reach the program, which may answer them", async () => {
    const child = sandbox.start([
      "run",
      "--rm",
      ...none,
      "box",
      "/bin/sh",
      "-c",
      "trap 'echo caught; exit 9' TERM; echo ready; while :; do sleep 0.1; done",
    ]);
    const result = finished(child);
    let seen = "";
    child.stdout?.on("data", (chunk: Buffer) => {
      seen += chunk.toString();
    });
    await until("the program is ready", () => seen.includes("ready"));
    child.kill("SIGTERM");
    const { status, stdout } = await result;
    assert.equal(stdout, "ready\ncaught\n");
    assert.equal(status, 9);
  });

  test("a program that does not answer a signal dies of it, as it would here", async () => {
    const child = sandbox.start([
      "run",
      "--rm",
      ...none,
      "box",
      "/bin/sh",
      "-c",
      "echo ready; exec sleep 1000",
    ]);
    const result = finished(child);
    await until(
      "the program is ready",
      () => new Promise((resolve) => child.stdout?.once("data", () => resolve(true))),
    );
    child.kill("SIGINT");
    assert.equal((await result).status, 130);
  });

  test("a reader that has enough ends the program with a broken pipe", () => {
    const script = `"$1" run --rm --platform none box yes 2>/dev/null | head -n 2; echo "\${PIPESTATUS[0]}"`;
    const result = spawnSync("bash", ["-c", script, "bash", COMMAND], {
      cwd: sandbox.directory,
      env: sandbox.env,
      encoding: "utf8",
    });
    assert.equal(result.stdout, "y\ny\n141\n");
  });

  test("a terminal is a terminal: size, echo, one stream, exit code", () => {
    const inner = `stty rows 33 cols 111; ${COMMAND} run --rm -it --platform none box /bin/sh -c 'test -t 0 && test -t 1 && stty size; exit 5'; echo code=$?`;
    const out = execFileSync(
      "script",
      ["-qec", `bash -c "${inner.replaceAll('"', '\\"').replaceAll("$", "\\$")}"`, "/dev/null"],
      {
        cwd: sandbox.directory,
        env: sandbox.env,
        encoding: "utf8",
        input: "",
      },
    );
    assert.match(out, /33 111\r\n/);
    assert.match(out, /code=5/);
  });

  test("what the manifest does not grant is refused with the line to change", () => {
    for (const [args, key] of [
      [["-e", "LD_PRELOAD=/x", "box"], /allow\.env/],
      [["-v", "/tmp:/etc", "box"], /allow\.mounts/],
      [["-v", "/tmp:/ro", "box"], /allow\.mounts/],
      [["-p", "0:9999", "box"], /ports/],
    ] as const) {
      const result = sandbox.run(["run", "--rm", ...none, ...args]);
      assert.equal(result.status, 77, args.join(" "));
      assert.match(result.stderr, key);
      assert.match(result.stderr, /measurement/);
    }
  });

  test("a mounted directory is shared both ways, a read-only one is not written", () => {
    mkdirSync(sandbox.path("shared"), { recursive: true });
    writeFileSync(sandbox.path("shared/in.txt"), "from the host\n");
    const script =
      "cat /data/in.txt; echo back >/data/out.txt; mkdir /data/d && mv /data/out.txt /data/d/; cat /ro/in.txt; echo x >/ro/x; echo $?";
    const shared = sandbox.path("shared");
    const result = sandbox.run([
      "run",
      "--rm",
      ...none,
      "-v",
      `${shared}:/data`,
      "-v",
      `${shared}:/ro:ro`,
      "box",
      "/bin/sh",
      "-c",
      script,
    ]);
    assert.equal(result.stdout, "from the host\nfrom the host\n1\n");
    assert.match(result.stderr, /[Rr]ead-only/);
    assert.equal(readFileSync(sandbox.path("shared/d/out.txt"), "utf8"), "back\n");
  });

  test("background instances: ps, logs, exec, ports, attach, stop, wait, start again, rm", async () => {
    const server = "echo up; mkdir -p /tmp/w; echo served >/tmp/w/f; httpd -f -p 8000 -h /tmp/w";
    const port = 20000 + Math.floor(Math.random() * 20000);
    const id = sandbox.ok([
      "run",
      "-d",
      "--name",
      "web",
      ...none,
      "-p",
      `${port}:8000`,
      "box",
      "/bin/sh",
      "-c",
      server,
    ]);
    assert.match(id, /^[0-9a-f]{64}$/);
    await until("the program has spoken", () => sandbox.run(["logs", "web"]).stdout === "up\n");
    const rows = JSON.parse(sandbox.ok(["ps", "--json"])) as { id: string; name: string; state: string }[];
    assert.deepEqual(
      rows.map((r) => [r.id, r.name, r.state]),
      [[id, "web", "running"]],
    );
    await until(
      "the port answers",
      () =>
        spawnSync("curl", ["-sf", `http://127.0.0.1:${port}/f`], { encoding: "utf8" }).stdout === "served\n",
    );

    assert.equal(sandbox.ok(["exec", id.slice(0, 8), "/bin/echo", "a  b"]), "a  b");
    assert.equal(
      sandbox.run(["exec", "-i", "web", "/bin/sh", "-c", "wc -c; exit 6"], { input: "12345" }).stdout.trim(),
      "5",
    );
    assert.equal(sandbox.run(["exec", "web", "/bin/sh", "-c", "exit 6"]).status, 6);
    const refused = sandbox.run(["exec", "web", "/bin/cat", "/etc/passwd"]);
    assert.equal(refused.status, 77);
    assert.match(refused.stderr, /allow\.exec/);
    const taken = sandbox.run(["run", "-d", "--name", "web", ...none, "box"]);
    assert.notEqual(taken.status, 0);
    assert.match(taken.stderr, /web/);

    sandbox.ok(["stop", "--time", "2", "web"]);
    assert.equal(sandbox.ok(["ps", "-q"]), "");
    assert.match(sandbox.ok(["wait", "web"]), /^(143|137)$/);
    sandbox.ok(["start", "web"]);
    await until("it has spoken again", () => sandbox.run(["logs", "web"]).stdout === "up\n");
    assert.notEqual(sandbox.run(["rm", "web"]).status, 0, "a running instance is not removed");
    sandbox.ok(["rm", "-f", "web"]);
    assert.equal(sandbox.ok(["ps", "-aq"]), "");
  });

  test("a killed command leaves no machine running and ps tells the truth", async () => {
    const child = sandbox.start([
      "run",
      "--name",
      "orphan",
      ...none,
      "box",
      "/bin/sh",
      "-c",
      "echo ready; exec sleep 1000",
    ]);
    await until(
      "the program is ready",
      () => new Promise((resolve) => child.stdout?.once("data", () => resolve(true))),
    );
    const [row] = JSON.parse(sandbox.ok(["inspect", "orphan", "--json"])) as [
      { status: { qemu: { pid: number } } },
    ];
    child.kill("SIGKILL");
    await until(
      "the machine is gone",
      () => spawnSync("kill", ["-0", String(row.status.qemu.pid)]).status !== 0,
      20,
    );
    assert.equal(sandbox.ok(["ps", "-q"]), "");
    sandbox.ok(["rm", "orphan"]);
  });

  test("a killed machine is a clear end", async () => {
    const child = sandbox.start([
      "run",
      "--name",
      "victim",
      ...none,
      "box",
      "/bin/sh",
      "-c",
      "echo ready; exec sleep 1000",
    ]);
    const result = finished(child);
    await until(
      "the program is ready",
      () => new Promise((resolve) => child.stdout?.once("data", () => resolve(true))),
    );
    const [row] = JSON.parse(sandbox.ok(["inspect", "victim", "--json"])) as [
      { status: { qemu: { pid: number } } },
    ];
    process.kill(row.status.qemu.pid, "SIGKILL");
    const { status, stderr } = await result;
    assert.notEqual(status, 0);
    assert.match(stderr, /machine|QEMU/i);
    sandbox.ok(["rm", "victim"]);
  });

  test("eight instances at once all succeed", async () => {
    const children = Array.from({ length: 8 }, (_, i) => {
      const child = spawn(COMMAND, ["run", "--rm", ...none, "box", "/bin/echo", `number ${i}`], {
        env: sandbox.env,
        cwd: sandbox.directory,
      });
      return finished(child);
    });
    const results = await Promise.all(children);
    assert.deepEqual(
      results.map((r) => [r.status, r.stdout]),
      results.map((_, i) => [0, `number ${i}\n`]),
    );
  });

  test("a dry run prints the command line of every platform and starts nothing", () => {
    for (const platform of ["vtpm", "none", "snp", "tdx", "csv"]) {
      const result = sandbox.run(["run", "--dry-run", "--platform", platform, "box"]);
      assert.equal(result.status, 0, result.stderr);
      assert.match(result.stdout, /qemu-system-x86_64/);
    }
    const refused = sandbox.run(["run", "--rm", "--platform", "snp", "box"]);
    assert.equal(refused.status, 69);
    assert.match(refused.stderr, /snp/);
    assert.equal(sandbox.ok(["ps", "-aq"]), "");
  });
});
