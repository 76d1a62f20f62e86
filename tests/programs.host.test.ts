/** Programs from Debian's packages, sealed without changes, as the examples show them. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createCipheriv, createHash, randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { debianLayer, layer, ociLayout } from "../tools/debian-images.ts";
import { noMachines, Sandbox, until } from "./support/shelter.ts";

const examples = join(import.meta.dirname, "../examples");
const skip =
  noMachines() ?? (process.getuid?.() === 0 ? undefined : "making the Debian image needs root (mmdebstrap)");
const KEY = randomBytes(32);
const REPORT = "nothing to report\n";
const PAGE = randomBytes(24 << 20);

describe("real programs", { skip: skip ?? false, timeout: 1_500_000 }, () => {
  let sandbox: Sandbox;

  before(() => {
    sandbox = new Sandbox();
    const nonce = randomBytes(12);
    const cipher = createCipheriv("aes-256-gcm", KEY, nonce);
    const sealed = Buffer.concat([nonce, cipher.update(REPORT), cipher.final(), cipher.getAuthTag()]);
    const python = layer(sandbox.path("python.tar"), {
      "srv/decrypt.py": { content: readFileSync(join(examples, "secret-file/decrypt.py")) },
      "srv/report.enc": { content: sealed },
    });
    const page = layer(sandbox.path("page.tar"), { "var/www/html/page.bin": { content: PAGE } });
    const base = debianLayer();
    const Env = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    ociLayout(sandbox.path("images"), {
      python: {
        layers: [base, python],
        config: { Entrypoint: ["python3", "/srv/decrypt.py"], Env, User: "nobody" },
      },
      redis: {
        layers: [base],
        config: {
          Entrypoint: ["redis-server"],
          Cmd: ["--save", ""],
          Env,
          User: "redis",
          WorkingDir: "/var/lib/redis",
          ExposedPorts: { "6379/tcp": {} },
        },
      },
      nginx: { layers: [base, page], config: { Cmd: ["nginx", "-g", "daemon off;"], Env } },
    });
  });

  after(() => sandbox?.[Symbol.dispose]());

  function build(tag: string, example: string): void {
    sandbox.ok([
      "build",
      "-q",
      "-f",
      join(examples, example, "shelter.yaml"),
      "-t",
      tag,
      `oci:images:${tag}`,
    ]);
  }

  function freePort(): number {
    return 20_000 + Math.floor(Math.random() * 20_000);
  }

  test("a Python program decrypts a file with a secret of the broker", async () => {
    await sandbox.broker();
    build("python", "secret-file");
    sandbox.ok(["broker", "secret", "set", "kbs:///demo/key/report"], { input: KEY });
    sandbox.ok(["broker", "reference", "set"], { input: sandbox.ok(["measure", "python", "--reference"]) });
    const denied = sandbox.run(["run", "--rm", "--platform", "vtpm", "python"]);
    assert.equal(denied.status, 77, `without a policy: ${denied.stderr}`);
    sandbox.ok(["broker", "policy", "allow", "python", "kbs:///demo/key/report"]);
    const result = sandbox.run(["run", "--rm", "--platform", "vtpm", "python"]);
    assert.equal(result.stdout, REPORT, result.stderr);
    assert.equal(result.status, 0);
  });

  test("redis-server behind a forwarded port answers redis-cli and redis-benchmark", async () => {
    build("redis", "redis");
    const port = String(freePort());
    sandbox.ok(["run", "-d", "--name", "cache", "--platform", "none", "-p", `${port}:6379`, "redis"]);
    const redis = (...args: string[]): string =>
      spawnSync("redis-cli", ["-p", port, ...args], { encoding: "utf8", maxBuffer: 8 << 20 }).stdout.trim();
    await until("redis answers", () => redis("ping") === "PONG");
    const value = randomBytes(1 << 20).toString("hex");
    assert.equal(
      spawnSync("redis-cli", ["-p", port, "-x", "set", "big"], {
        input: value,
        encoding: "utf8",
      }).stdout.trim(),
      "OK",
    );
    assert.ok(redis("get", "big") === value, "a large value comes back as it went");
    const bench = spawnSync(
      "redis-benchmark",
      ["-p", port, "-q", "-n", "2000", "-c", "20", "-t", "set,get"],
      { encoding: "utf8" },
    );
    assert.equal(bench.status, 0, bench.stderr);
    assert.match(bench.stdout, /GET: [\d.]+ requests per second/);
    assert.equal(sandbox.ok(["exec", "cache", "redis-cli", "strlen", "big"]), String(value.length));
    sandbox.ok(["stop", "cache"]);
    assert.equal(sandbox.ok(["wait", "cache"]), "0", "redis ends by itself when asked");
    sandbox.ok(["rm", "cache"]);
  });

  test("nginx serves a large file unchanged", async () => {
    build("nginx", "nginx");
    const port = freePort();
    sandbox.ok(["run", "-d", "--name", "web", "--platform", "none", "-p", `${port}:80`, "nginx"]);
    const url = `http://127.0.0.1:${port}/page.bin`;
    await until("nginx answers", () => spawnSync("curl", ["-sfI", url]).status === 0);
    const out = sandbox.path("page.out");
    assert.equal(spawnSync("curl", ["-sf", "-o", out, url]).status, 0);
    const digest = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");
    assert.equal(digest(readFileSync(out)), digest(PAGE));
    sandbox.ok(["rm", "-f", "web"]);
  });

  test("the redis image without its own shelter.yaml gets safe defaults", () => {
    writeFileSync(sandbox.path("empty.yaml"), "{}\n");
    sandbox.ok(["build", "-q", "-f", "empty.yaml", "-t", "plain-redis", "oci:images:redis"]);
    const refused = sandbox.run(["run", "--rm", "--platform", "none", "plain-redis", "--version"]);
    assert.equal(refused.status, 77);
    assert.match(refused.stderr, /allow\.args/);
  });
});
