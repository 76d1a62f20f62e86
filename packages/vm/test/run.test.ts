import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, beforeEach, test } from "node:test";
import {
  connectInstance,
  findInstance,
  type Instance,
  listInstances,
  readLogs,
  refreshInstance,
  removeInstance,
  runInstance,
  startDetached,
} from "../src/index.ts";
import { eventually, textOf, World } from "./world.ts";

const world = new World();
after(() => world.close());
beforeEach(() => world.set("FAKE_GUEST", "cat"));

function running(pid: number | undefined): boolean {
  return (
    pid !== undefined &&
    existsSync(`/proc/${pid}`) &&
    !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, "utf8"))
  );
}

/** What a run must leave: its record and its log, nothing else. */
function assertClean(instance: Instance): void {
  const now = refreshInstance(instance);
  assert.equal(now.status.state, "exited");
  assert.ok(!running(now.status.qemu?.pid), "QEMU is gone");
  assert.deepEqual(readdirSync(join(world.directory, "run", "shelter")), [], "no sockets are left");
  const left = readdirSync(instance.directory).filter(
    (f) => !/^(instance\.json|log(\.1)?|qemu\.log|supervisor\.log)$/.test(f),
  );
  assert.deepEqual(left, []);
}

test("runs to the end: output apart, exact code, a record and nothing else left", async () => {
  const instance = world.instance({ args: ["exit", "7"] });
  const run = await runInstance(instance);
  const [out, err] = await Promise.all([textOf(run.main.stdout), textOf(run.main.stderr)]);
  assert.equal(out, "out\n");
  assert.equal(err, "err\n");
  const end = await run.ended;
  assert.deepEqual(end.exit, { code: 7 });
  assert.deepEqual(refreshInstance(instance).status.exit, { code: 7 });
  const steps = end.timings.map((t) => `${t.side} ${t.step}`);
  assert.deepEqual(steps.slice(0, 3), ["host qemu", "host hello", "guest manifest"]);
  assert.deepEqual(steps.slice(-3), ["host started", "host exit", "host cleaned"]);
  assertClean(instance);
  const logged: string[] = [];
  for await (const e of readLogs(instance)) logged.push(`${e.stream}:${e.bytes.toString()}`);
  assert.deepEqual(logged, ["stdout:out\n", "stderr:err\n"]);
});

test("carries input through, and its end", async () => {
  const instance = world.instance();
  const run = await runInstance(instance);
  run.main.stdin.end("over there");
  assert.equal(await textOf(run.main.stdout), "over there");
  run.main.stderr.resume();
  assert.deepEqual((await run.ended).exit, { code: 0 });
});

test("an instance to be removed leaves not even its record", async () => {
  const instance = world.instance({ args: ["exit", "0"], remove: true }, "gone");
  const run = await runInstance(instance);
  run.main.stdout.resume();
  run.main.stderr.resume();
  await run.ended;
  assert.ok(!existsSync(instance.directory));
  assert.throws(() => findInstance(world.state, "gone"), { code: "INSTANCE_UNKNOWN" });
  removeInstance(world.instance({}, "gone"), { force: false });
});

for (const [behaviour, code, message] of [
  ["no-start", "MACHINE_DIED", /^QEMU did not start \(status 1\): qemu: cannot do what was asked$/],
  ["refuse", "GUEST_REFUSED", /^arguments are not granted$/],
  ["fail", "GUEST_FAILED", /^pcr 9 is not expected$/],
  ["panic", "GUEST_PANIC", /^the guest's kernel panicked after step manifest$/],
  ["die", "MACHINE_DIED", /^QEMU was killed by SIGKILL after step manifest$/],
] as const) {
  test(`a guest that ends by "${behaviour}" is a named error, and nothing is left`, async () => {
    world.set("FAKE_GUEST", behaviour);
    const instance = world.instance();
    await assert.rejects(
      async () => {
        const run = await runInstance(instance);
        run.main.stdout.resume();
        run.main.stderr.resume();
        await run.ended;
      },
      { code, message },
    );
    assert.equal(refreshInstance(instance).status.error?.code, code);
    assert.equal(refreshInstance(instance).status.exit, null);
    assertClean(instance);
  });
}

test("a machine killed in the middle is reported with the program's last words", async () => {
  const instance = world.instance({ args: ["words"] });
  const run = await runInstance(instance);
  run.main.stdout.resume();
  run.main.stderr.resume();
  await assert.rejects(run.ended, { code: "MACHINE_DIED", hint: "its last words: something is wrong" });
  assertClean(instance);
});

for (const [behaviour, where] of [
  ["silent", "before its agent said hello"],
  ["hang", "after step manifest"],
] as const) {
  test(`a guest that hangs ${where} is given up and ended`, async () => {
    world.set("FAKE_GUEST", behaviour);
    const instance = world.instance({ bootTimeout: 1 });
    const run = await runInstance(instance);
    await assert.rejects(run.ended, {
      code: "BOOT_TIMEOUT",
      message: `the guest hangs ${where}; given up after 1 s`,
    });
    assertClean(instance);
  });
}

test("a signal before the guest is up ends it by that signal", async () => {
  world.set("FAKE_GUEST", "silent");
  const instance = world.instance();
  const run = await runInstance(instance);
  run.signal(2);
  assert.deepEqual((await run.ended).exit, { signal: 2 });
  assertClean(instance);
});

test("stop asks first, and a guest that does not listen is ended all the same", async () => {
  const polite = await runInstance(world.instance());
  await polite.main.started;
  polite.stop(5);
  assert.deepEqual((await polite.ended).exit, { signal: 15 });
});

test("other processes exec, attach, signal and wait through the control socket", async () => {
  const instance = world.instance();
  const run = await runInstance(instance);
  run.main.stdout.resume();
  run.main.stderr.resume();
  await run.main.started;
  const client = await connectInstance(instance);
  const echo = client.exec({ argv: ["echo", "a b", "c"], env: [], tty: false, stdin: false });
  await echo.started;
  assert.equal(await textOf(echo.stdout), "a b c\n");
  assert.deepEqual(await echo.exit, { code: 3 });
  const forbidden = client.exec({ argv: ["forbidden"], env: [], tty: false, stdin: false });
  await assert.rejects(forbidden.exit, {
    code: "GUEST_REFUSED",
    kind: "refused",
    message: "exec of forbidden is not granted",
    hint: /change allow\.exec in shelter\.yaml/,
  });
  const cat = client.exec({ argv: ["cat"], env: [], tty: false, stdin: true });
  cat.stdin.end("through two sockets");
  assert.equal(await textOf(cat.stdout), "through two sockets");
  assert.deepEqual(await cat.exit, { code: 0 });
  const attached = client.attach({ stdin: true, tty: false });
  await attached.started;
  attached.stdin.write("hello");
  const [first] = (await attached.stdout.take(1).toArray()) as Buffer[];
  assert.equal(first?.toString(), "hello");
  const stats = await client.stats();
  assert.ok(stats.machine > 0 && stats.supervisor > 0);
  const ended = client.wait();
  client.signal(12);
  assert.deepEqual(await ended, { signal: 12 });
  assert.deepEqual((await run.ended).exit, { signal: 12 });
  await assert.rejects(connectInstance(instance), { code: "INSTANCE_NOT_RUNNING" });
});

test("a watcher that leaves disturbs nobody, and the owner that leaves is a broken pipe", async () => {
  const instance = world.instance();
  const run = await runInstance(instance);
  await run.main.started;
  const client = await connectInstance(instance);
  const attached = client.attach({ stdin: false, tty: false });
  await attached.started;
  client.close();
  run.main.stdin.end("still here");
  assert.equal(await textOf(run.main.stdout), "still here");
  run.main.stderr.resume();
  await run.ended;
});

test("a detached instance outlives who started it and answers others", async () => {
  const instance = world.instance({}, "detached");
  await startDetached(instance);
  const now = refreshInstance(instance);
  assert.equal(now.status.state, "running");
  assert.notEqual(now.status.supervisor?.pid, process.pid);
  const client = await connectInstance(instance);
  const ended = client.wait();
  client.stop(5);
  assert.deepEqual(await ended, { signal: 15 });
  await eventually("the supervisor is gone", () => !running(now.status.supervisor?.pid));
  assertClean(instance);
});

test("a detached instance that cannot run says why to who started it", async () => {
  world.set("FAKE_GUEST", "refuse");
  const instance = world.instance();
  await assert.rejects(startDetached(instance), {
    code: "GUEST_REFUSED",
    message: "arguments are not granted",
  });
  await eventually("it is cleaned up", () => refreshInstance(instance).status.state === "exited");
  assertClean(instance);
});

test("when the supervisor is killed the machine dies with it, and ps tells the truth", async () => {
  const instance = world.instance({}, "orphan");
  await startDetached(instance);
  const { supervisor, qemu } = refreshInstance(instance).status;
  assert.ok(running(qemu?.pid));
  process.kill(supervisor?.pid as number, "SIGKILL");
  await eventually("QEMU is gone", () => !running(qemu?.pid));
  const listed = listInstances(world.state).find((i) => i.name === "orphan");
  assert.equal(listed?.status.state, "exited");
  assert.equal(listed?.status.error?.code, "MACHINE_DIED");
  assertClean(instance);
});

test("an instance runs once at a time, and again after its end", async () => {
  const instance = world.instance({ args: ["exit", "4"] });
  const first = await runInstance(instance);
  first.main.stdout.resume();
  first.main.stderr.resume();
  await first.ended;
  const second = await runInstance(instance);
  await assert.rejects(runInstance(instance), { code: "INSTANCE_RUNNING" });
  assert.equal(await textOf(second.main.stdout), "out\n");
  second.main.stderr.resume();
  assert.deepEqual((await second.ended).exit, { code: 4 });
});

test("logs follow to the end and give the last lines", async () => {
  const instance = world.instance({ args: ["lines", "500"] });
  const run = await runInstance(instance);
  run.main.stdout.resume();
  run.main.stderr.resume();
  const followed: Buffer[] = [];
  for await (const entry of readLogs(instance, { follow: true })) followed.push(entry.bytes);
  assert.equal(
    Buffer.concat(followed).toString(),
    Array.from({ length: 500 }, (_, i) => `line ${i}\n`).join(""),
  );
  await run.ended;
  const last: Buffer[] = [];
  for await (const entry of readLogs(instance, { tail: 2 })) last.push(entry.bytes);
  assert.equal(Buffer.concat(last).toString(), "line 498\nline 499\n");
});

test("a port that is taken is an error before anything starts", async () => {
  const { createServer } = await import("node:net");
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const { port } = taken.address() as { port: number };
  const instance = world.instance({ ports: [{ address: "127.0.0.1", hostPort: port, guestPort: 80 }] });
  await assert.rejects(runInstance(instance), {
    code: "PORT_BUSY",
    message: `cannot listen on 127.0.0.1:${port}`,
  });
  taken.close();
  assertClean(instance);
});
