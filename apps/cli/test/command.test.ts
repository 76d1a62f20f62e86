import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { parseSize, program } from "../src/program.ts";
import { parseEnv, parseMount, parsePublish } from "../src/run-config.ts";
import { ago, printable, size, table } from "../src/terminal.ts";
import { signalNumber } from "../src/terminal-session.ts";

const COMMAND = join(import.meta.dirname, "../../../shelter");

describe("the command line", () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "shelter-cli-"));
  });
  after(() => rmSync(directory, { recursive: true }));

  function shelter(...args: string[]): { status: number | null; stdout: string; stderr: string } {
    const env = { ...process.env, SHELTER_STATE: join(directory, "state"), NO_COLOR: "1" };
    return spawnSync(COMMAND, args, { cwd: directory, env, encoding: "utf8" });
  }

  test("every command describes itself and every option", () => {
    const walk = (command: ReturnType<typeof program>): void => {
      for (const child of command.commands) {
        assert.notEqual(child.description(), "", child.name());
        for (const option of child.options)
          assert.notEqual(option.description, "", `${child.name()} ${option.flags}`);
        walk(child);
      }
    };
    walk(program());
  });

  test("empty lists are lists", () => {
    for (const verb of ["images", "ps"]) {
      assert.equal(shelter(verb, "--json").stdout, "[]\n");
      assert.match(shelter(verb).stdout, /^(NAME|ID) /);
    }
  });

  test("a wrong option, command or value is a usage error that says so", () => {
    for (const [args, words] of [
      [["images", "--jason"], /--json/],
      [["imagse"], /images/],
      [["run", "--memory", "lots", "x"], /expected a size/],
      [["run", "--cpus", "0", "x"], /whole number/],
      [["run", "--platform", "sgx", "x"], /Allowed choices/],
      [["run", "--rm", "nothing-here"], /shelter images/],
      [["run", "Upper"], /image/i],
      [["logs", "nobody"], /shelter ps -a/],
      [["inspect", "nobody"], /no image or instance/],
      [["build", "docker-archive:/does/not/exist"], /does\/not\/exist/],
      [["build", "-t", "Bad:Name:x", "."], /name/],
      [["build", "--encrypt", "file:///x", "."], /kbs:\/\/\//],
      [["kill", "-s", "NOPE", "x"], /signal/],
      [["completion", "tcsh"], /bash, zsh or fish/],
    ] as const) {
      const { status, stderr } = shelter(...args);
      assert.ok(status === 2 || status === 69 || status === 65, `${args.join(" ")}: ${status} ${stderr}`);
      assert.match(stderr, words, args.join(" "));
      assert.doesNotMatch(stderr, /bug in shelter/);
    }
  });

  test("with --json an error is one JSON object", () => {
    const { status, stderr } = shelter("inspect", "nobody", "--json");
    assert.equal(status, 2);
    assert.equal((JSON.parse(stderr) as { error: { code: string } }).error.code, "UNKNOWN");
  });

  test("a mistake in shelter.yaml is shown with file, line, column and what was expected", () => {
    const root = join(directory, "rootfs");
    mkdirSync(join(root, "bin"), { recursive: true });
    writeFileSync(join(root, "bin/sh"), "x", { mode: 0o755 });
    writeFileSync(join(directory, "bad.yaml"), "allow:\n  arg: []\n");
    const { status, stderr } = shelter("build", "-f", "bad.yaml", root);
    assert.equal(status, 2);
    assert.match(stderr, /bad\.yaml:2:3: expected .*args/);
  });

  test("completion scripts are accepted by bash and know commands and options", () => {
    const script = shelter("completion", "bash").stdout;
    const ask = (line: string): string =>
      spawnSync(
        "bash",
        [
          "-c",
          `${script}\nCOMP_WORDS=(${line} ""); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _shelter; echo "\${COMPREPLY[@]}"`,
        ],
        {
          encoding: "utf8",
          env: {
            ...process.env,
            PATH: `${join(COMMAND, "..")}:${process.env["PATH"]}`,
            SHELTER_STATE: join(directory, "state"),
          },
        },
      ).stdout;
    assert.match(ask("shelter"), /\bbuild\b.*\brun\b.*\bdoctor\b/);
    assert.match(ask("shelter run"), /--platform/);
    assert.match(ask("shelter broker secret"), /\bset\b.*\blist\b/);
    assert.match(shelter("completion", "fish").stdout, /complete -c shelter/);
  });

  test("a broken pipe ends the command as a pipe ends any", () => {
    const result = spawnSync("bash", ["-c", `"$0" --help | true; echo \${PIPESTATUS[0]}`, COMMAND], {
      encoding: "utf8",
    });
    assert.match(result.stdout, /^(0|141)\n$/);
    assert.equal(result.stderr, "");
  });
});

test("sizes, mounts, ports and variables are read as Docker reads them", () => {
  assert.deepEqual(["256m", "1GiB", "512", "1.5g", "64KB"].map(parseSize), [
    256 << 20,
    1 << 30,
    512,
    1.5 * (1 << 30),
    64 << 10,
  ]);
  for (const bad of ["", "m", "-1", "1x", "1e3", "0"])
    assert.throws(() => parseSize(bad), /expected a size/, bad);
  assert.deepEqual(parsePublish("8080:80"), { address: "127.0.0.1", hostPort: 8080, guestPort: 80 });
  assert.deepEqual(parsePublish("0.0.0.0:1:2/tcp"), { address: "0.0.0.0", hostPort: 1, guestPort: 2 });
  assert.deepEqual(parsePublish("[::1]:1:2"), { address: "::1", hostPort: 1, guestPort: 2 });
  for (const bad of ["80", "a:b", "1:0", "1:70000", "1:2/udp", ""])
    assert.throws(() => parsePublish(bad), { code: "RUN_OPTION" }, bad);
  assert.deepEqual(parseMount("/tmp:/data:ro"), { source: "/tmp", target: "/data", readOnly: true });
  assert.equal(parseMount("/tmp:/data/../etc").target, "/etc");
  for (const bad of ["/tmp", "/tmp:data", "/tmp:/x:rx", "/does/not/exist:/x"])
    assert.throws(() => parseMount(bad), { code: "RUN_OPTION" }, bad);
  assert.deepEqual(parseEnv(["A=b=c", "HERE", "GONE", "E="], { HERE: "x" }), ["A=b=c", "HERE=x", "E="]);
  assert.throws(() => parseEnv(["=x"], {}), { code: "RUN_OPTION" });
  assert.deepEqual(["TERM", "SIGKILL", "int", "9"].map(signalNumber), [15, 9, 2, 9]);
  for (const bad of ["", "NOPE", "0", "65", "-9"])
    assert.throws(() => signalNumber(bad), { code: "SIGNAL_UNKNOWN" }, bad);
});

test("text from outside cannot drive a terminal", () => {
  assert.equal(printable("a\x1b[31mb\x07\u202ec\x9b\r"), "a\\e[31mb\\x07\\x202ec\\x9b\\x0d");
  assert.equal(
    table(
      ["A", "B"],
      [
        ["中文", "x"],
        ["y", ""],
      ],
    ),
    "A     B\n中文  x\ny\n",
  );
  assert.deepEqual(
    [size(0), size(1023), size(1536), size(5 * 2 ** 30)],
    ["0 B", "1023 B", "1.5 KiB", "5.0 GiB"],
  );
  assert.deepEqual(
    [ago(0, 1000), ago(0, 120_000), ago(0, 90_000_000)],
    ["1 second ago", "2 minutes ago", "1 day ago"],
  );
});
