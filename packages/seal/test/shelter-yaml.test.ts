import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { test } from "node:test";
import { parseShelterYaml, SealError } from "../src/index.ts";

const MiB = 2 ** 20;

test("an empty file, an empty map and a file of comments are the safe defaults", () => {
  for (const text of ["", "{}", "# nothing\n", "---\n"]) {
    deepEqual(parseShelterYaml(text, "shelter.yaml"), {
      process: { env: new Map() },
      allow: { args: [], env: [], exec: [], stdin: true, tty: true, mounts: [] },
      secrets: [],
      network: { outbound: false },
      resources: { cpus: 1, writable: 64 * MiB },
      capabilities: { add: [], drop: [] },
      root: {},
    });
  }
});

test("every key is read", () => {
  const config = parseShelterYaml(
    `process:
  entrypoint: [/usr/bin/python3, -u]
  cmd: [app.py]
  env: {MODE: prod, DEBUG: null}
  cwd: /srv
  user: app:staff
allow:
  args: [[--port, "*"], ["**"]]
  env: ["APP_*", LOG_LEVEL]
  exec: "*"
  stdin: false
  tty: false
  mounts: [{target: /data}, {target: /out, readOnly: false}]
secrets:
  - {from: kbs:///default/key/app, file: /run/secrets/key, mode: 0440, uid: 5, gid: 6}
  - {from: kbs:///default/token/app, env: TOKEN}
ports: [6379, 80/tcp, 80]
network: {outbound: true}
resources: {memory: 1GiB, cpus: 2, writable: 128m}
capabilities: {add: [net_admin, CAP_SYS_TIME], drop: [KILL]}
root: {check: lazy}
`,
    "shelter.yaml",
  );
  deepEqual(config, {
    process: {
      entrypoint: ["/usr/bin/python3", "-u"],
      cmd: ["app.py"],
      env: new Map([
        ["MODE", "prod"],
        ["DEBUG", null],
      ]),
      cwd: "/srv",
      user: "app:staff",
    },
    allow: {
      args: [["--port", "*"], ["**"]],
      env: ["APP_*", "LOG_LEVEL"],
      exec: [["**"]],
      stdin: false,
      tty: false,
      mounts: [
        { target: "/data", readOnly: true },
        { target: "/out", readOnly: false },
      ],
    },
    secrets: [
      { uri: "kbs:///default/key/app", file: "/run/secrets/key", mode: 0o440, uid: 5, gid: 6 },
      { uri: "kbs:///default/token/app", env: "TOKEN" },
    ],
    ports: [80, 6379],
    network: { outbound: true },
    resources: { memory: 1024 * MiB, cpus: 2, writable: 128 * MiB },
    capabilities: { add: ["CAP_NET_ADMIN", "CAP_SYS_TIME"], drop: ["CAP_KILL"] },
    root: { check: "lazy" },
  });
});

const WRONG: readonly [string, string, string?][] = [
  [
    "proces: {}",
    '1:1: expected one of process, allow, secrets, ports, network, resources, capabilities, root, have "proces"',
    "did you mean process?",
  ],
  [
    "allow:\n  agrs: []",
    '2:3: expected one of args, env, exec, stdin, tty, mounts in allow, have "agrs"',
    "did you mean args?",
  ],
  [
    "process:\n  cmd: [sleep, 10]",
    "2:16: expected an argument for process.cmd[1], have the number 10",
    'write it in quotes: "10"',
  ],
  ["process: {cmd: ls}", '1:16: expected a list of arguments for process.cmd, have "ls"'],
  ["process: {env: [A]}", '1:17: expected NAME=value for process.env[0], have "A"'],
  ["process: {env: [A=1, A=2]}", "1:22: expected each variable once in process.env, have A twice"],
  ["process: {env: {1A: x}}", '1:17: expected a variable name in process.env, have "1A"'],
  [
    "process: {env: {A: true}}",
    "1:20: expected text for process.env.A, have the boolean true",
    'write it in quotes: "true"',
  ],
  ["process: {cwd: srv}", '1:16: expected an absolute path without //, . or .. for process.cwd, have "srv"'],
  [
    "process: {cwd: /a/../b}",
    '1:16: expected an absolute path without //, . or .. for process.cwd, have "/a/../b"',
  ],
  [
    "process: {user: -1}",
    "1:17: expected a whole number from 0 to 4294967294 for process.user, have the number -1",
  ],
  ["process:", "1:9: expected a map with entrypoint, cmd, env, cwd, user for process, have nothing"],
  [
    'allow: {args: ["x"]}',
    '1:16: expected a list of argument lists, as [["--port", "*"]], or "*" for allow.args[0], have "x"',
  ],
  [
    'allow: {exec: [["**", a]]}',
    '1:17: expected ** only as the last pattern for allow.exec[0][0], have "**"',
  ],
  ["allow: {env: [A*B]}", '1:15: expected a variable name or a prefix with * for allow.env[0], have "A*B"'],
  ["allow: {stdin: yes}", '1:16: expected true or false for allow.stdin, have "yes"'],
  ["allow: {mounts: [{readOnly: true}]}", "1:18: expected a target in allow.mounts[0], have none"],
  ["allow: {mounts: [{target: /}]}", '1:27: expected a path below / for allow.mounts[0].target, have "/"'],
  ["secrets: [{from: x, env: A}]", '1:18: expected kbs:///repository/type/tag for secrets[0].from, have "x"'],
  [
    "secrets: [{from: kbs:///a/../c, env: A}]",
    '1:18: expected kbs:///repository/type/tag for secrets[0].from, have "kbs:///a/../c"',
  ],
  ["secrets: [{from: kbs:///a/b/c}]", "1:11: expected either file or env in secrets[0], have neither"],
  [
    "secrets: [{from: kbs:///a/b/c, env: A, file: /x}]",
    "1:11: expected either file or env in secrets[0], have both",
  ],
  [
    "secrets: [{from: kbs:///a/b/c, env: A, mode: 0400}]",
    "1:46: expected secrets[0].mode only beside file, have env",
  ],
  [
    "secrets: [{from: kbs:///a/b/c, file: /x, mode: 0800}]",
    "1:48: expected a file mode, as 0400 for secrets[0].mode, have the number 0800",
  ],
  ["ports: abc", '1:8: expected a list of ports, as [80, 443] for ports, have "abc"'],
  ["ports: [0]", "1:9: expected a whole number from 1 to 65535 for ports[0], have the number 0"],
  ["ports: [53/udp]", '1:9: expected a whole number from 1 to 65535 for ports[0], have "53/udp"'],
  ["network: {outbound: 1}", "1:21: expected true or false for network.outbound, have the number 1"],
  [
    "resources: {memory: lots}",
    '1:21: expected a size in whole MiB, as 256MiB for resources.memory, have "lots"',
  ],
  [
    "resources: {memory: 64MiB}",
    '1:21: expected from 128MiB to 1048576MiB for resources.memory, have "64MiB"',
  ],
  [
    "resources: {memory: 300000001}",
    "1:21: expected a size in whole MiB, as 256MiB for resources.memory, have the number 300000001",
  ],
  [
    "resources: {cpus: 1.5}",
    "1:19: expected a whole number from 1 to 64 for resources.cpus, have the number 1.5",
  ],
  [
    "capabilities: {add: [NET_ADMN]}",
    '1:22: expected a capability, have "NET_ADMN"',
    "did you mean NET_ADMIN?",
  ],
  ["root: {check: never}", '1:15: expected whole or lazy for root.check, have "never"'],
  ["a: 1\na: 2", "2:1: expected each name once, have it twice"],
  ["a: &x [1]\nb: *x", "1:7: expected a value, have the anchor &x"],
  ["process: !!set {a}", "1:16: expected a value, have the tag tag:yaml.org,2002:set"],
  [
    "[]",
    "1:1: expected a map with process, allow, secrets, ports, network, resources, capabilities, root, have a list",
  ],
  ["- ".repeat(100_000), "expected at most 16 levels, have more"],
  ["[".repeat(100_000), "expected at most 16 levels, have more"],
  [`a: "${"x".repeat(300_000)}"`, "the file is longer than 262144 bytes"],
];

for (const [text, message, hint] of WRONG) {
  test(`refuses ${JSON.stringify(text.slice(0, 50))} with place and reason`, () => {
    throws(
      () => parseShelterYaml(text, "shelter.yaml"),
      (error) => {
        ok(error instanceof SealError);
        equal(error.code, "YAML_MALFORMED");
        equal(error.kind, "usage");
        if (/^[0-9]/.test(message)) equal(error.message, `shelter.yaml:${message}`);
        else
          ok(
            /^shelter\.yaml:[0-9]+:[0-9]+: /.test(error.message) && error.message.endsWith(message),
            error.message,
          );
        if (hint !== undefined) equal(error.hint, hint);
        return true;
      },
    );
  });
}
