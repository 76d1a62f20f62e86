import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import {
  GuestError,
  INITIAL_WINDOW,
  type RelayRequest,
  type RelayResponse,
  type RunRequest,
  Session,
} from "../src/index.ts";
import { FakeAgent, pipePair, type WireFrame } from "./fake-agent.ts";

const MANIFEST = Buffer.from('{"version":1}');
const RUN: RunRequest = { args: null, env: [], tty: false, stdin: true, mounts: [], hostname: "abc" };

interface Setup {
  run?: Partial<RunRequest>;
  relay?: (request: RelayRequest) => Promise<RelayResponse>;
  chunk?: number;
}

function open(setup: Setup = {}): { session: Session; agent: FakeAgent; steps: string[] } {
  const [host, guest] = pipePair(setup.chunk);
  const steps: string[] = [];
  const session = new Session({
    transport: host,
    manifest: MANIFEST,
    attest: true,
    now: new Date("2026-01-02T03:04:05.678Z"),
    run: { ...RUN, ...setup.run },
    relay: setup.relay ?? (() => Promise.reject(new Error("no relay in this test"))),
    onStep: (s) => steps.push(`${s.step}@${s.ms}`),
  });
  return { session, agent: new FakeAgent(guest), steps };
}

const HELLO = { type: "hello", protocol: 1, agent: "0.1.0" };

async function running(
  setup: Setup = {},
): Promise<ReturnType<typeof open> & { streams: Record<string, number> }> {
  const all = open(setup);
  all.agent.say(HELLO);
  const boot = await all.agent.message("boot");
  all.agent.say({ type: "started", process: 1 });
  await all.session.main.started;
  return { ...all, streams: (boot["run"] as { streams: Record<string, number> }).streams };
}

async function text(stream: AsyncIterable<Buffer>): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
}

test("boots with exactly what was asked for, and reports how the process ended", async () => {
  const { session, agent, steps } = open({
    run: { args: ["a b", ""], env: ["K=v"], hostname: "h1" },
    chunk: 3,
  });
  agent.say(HELLO);
  const boot = await agent.message("boot");
  assert.deepEqual(boot, {
    type: "boot",
    manifest: MANIFEST.toString("base64"),
    attest: true,
    time: Date.UTC(2026, 0, 2, 3, 4, 5) / 1000,
    run: {
      args: ["a b", ""],
      env: ["K=v"],
      tty: false,
      stdin: true,
      streams: { stdin: 1, stdout: 2, stderr: 3 },
      mounts: [],
      hostname: "h1",
    },
  });
  agent.say({ type: "step", step: "root", ms: 1700 });
  agent.say({ type: "started", process: 1 });
  agent.data(2, "out\0\xff");
  agent.data(3, "err");
  session.main.stdin.end("input");
  await agent.until((f) => f.find((x) => x.kind === 4 && x.stream === 1), "the end of input");
  assert.equal(agent.received(1).toString(), "input");
  agent.send(4, 2);
  agent.send(4, 3);
  agent.say({ type: "exit", process: 1, code: 7 });
  agent.say({ type: "bye" });
  assert.equal(await text(session.main.stdout), "out\0\xff");
  assert.equal(await text(session.main.stderr), "err");
  assert.deepEqual(await session.main.exit, { code: 7 });
  assert.deepEqual(await session.ended, { code: 7 });
  assert.equal(await session.hello, "0.1.0");
  assert.deepEqual(steps, ["root@1700"]);
  await agent.message("bye");
});

test("keeps input given early until the guest knows of its stream", async () => {
  const { session, agent } = open();
  session.main.stdin.end("early");
  session.main.stderr.destroy();
  await delay(10);
  assert.equal(agent.frames.length, 0);
  agent.say(HELLO);
  await agent.until((f) => f.find((x) => x.kind === 4 && x.stream === 1), "the end of input");
  assert.equal(JSON.parse((agent.frames[0] as WireFrame).payload.toString()).type, "boot");
  assert.equal(agent.received(1).toString(), "early");
  assert.ok(agent.frames.some((f) => f.kind === 5 && f.stream === 3));
});

test("reports a signal as one, not as a code", async () => {
  const { session, agent } = await running();
  agent.say({ type: "exit", process: 1, signal: 9 });
  agent.say({ type: "bye" });
  assert.deepEqual(await session.ended, { signal: 9 });
});

test("never sends past the guest's window, and goes on when it grows", async () => {
  const { session, agent } = await running();
  const sent = Buffer.alloc(INITIAL_WINDOW + 100_000, 1);
  session.main.stdin.end(sent);
  await agent.until(
    () => (agent.received(1).length >= INITIAL_WINDOW ? true : undefined),
    "a window of data",
  );
  await delay(30);
  assert.equal(agent.received(1).length, INITIAL_WINDOW);
  agent.window(1, 60_000);
  await agent.until(
    () => (agent.received(1).length >= INITIAL_WINDOW + 60_000 ? true : undefined),
    "more data",
  );
  await delay(30);
  assert.equal(agent.received(1).length, INITIAL_WINDOW + 60_000);
  agent.window(1, 60_000);
  await agent.until((f) => f.find((x) => x.kind === 4 && x.stream === 1), "the end");
  assert.ok(agent.received(1).equals(sent));
});

test("gives window back only for what was read", async () => {
  const { session, agent } = await running();
  const given = (): number =>
    agent.frames
      .filter((f: WireFrame) => f.kind === 3 && f.stream === 2)
      .reduce((n, f) => n + f.payload.readUInt32LE(0), 0);
  for (let i = 0; i < 4; i++) agent.data(2, Buffer.alloc(65536, i));
  await delay(50);
  assert.equal(given(), 0, "nobody has read anything");
  assert.equal(session.main.stdout.readableLength <= INITIAL_WINDOW, true);
  let read = 0;
  session.main.stdout.on("data", (d: Buffer) => {
    read += d.length;
  });
  await agent.until(() => (given() > 0 ? true : undefined), "window");
  await delay(30);
  assert.equal(read, INITIAL_WINDOW);
  assert.ok(given() >= INITIAL_WINDOW - 65536 && given() <= INITIAL_WINDOW, `gave ${given()}`);
});

test("ends the session when the guest sends past its window", async () => {
  const { session, agent } = await running();
  for (let i = 0; i < 5; i++) agent.data(2, Buffer.alloc(65536));
  await assert.rejects(session.ended, { code: "WINDOW_EXCEEDED" });
});

test("ends the session when the guest grows a window past its limit", async () => {
  const { session, agent } = await running();
  agent.window(1, 1 << 20);
  await assert.rejects(session.ended, { code: "WINDOW_OVERFLOW" });
});

test("a process that closes its input is a closed pipe, not an error", async () => {
  const { session, agent } = await running();
  const closed = new Promise((resolve) => session.main.stdin.once("close", resolve));
  session.main.stdin.on("error", (e) => assert.fail(String(e)));
  agent.send(5, 1, "closed");
  await closed;
  session.main.stdin.write("ignored");
  agent.say({ type: "exit", process: 1, code: 0 });
  agent.say({ type: "bye" });
  assert.deepEqual(await session.ended, { code: 0 });
});

test("a reader that leaves is a reset for the guest", async () => {
  const { session, agent } = await running();
  session.main.stdout.destroy();
  const frame = await agent.until((f) => f.find((x) => x.kind === 5), "a reset");
  assert.equal(frame.stream, 2);
});

test("answers data on a stream nobody knows with a reset, and ignores the rest", async () => {
  const { session, agent } = await running();
  agent.send(3, 77, Buffer.from([1, 0, 0, 0]));
  agent.send(4, 77);
  agent.send(5, 77, "x");
  agent.data(77, "x");
  const frame = await agent.until((f) => f.find((x) => x.kind === 5), "a reset");
  assert.equal(frame.stream, 77);
  assert.equal(session.lastStep, undefined);
});

test("runs other processes with streams of their own", async () => {
  const { session, agent } = await running();
  const process = session.exec({
    argv: ["ls", "-l"],
    env: ["A=b"],
    tty: true,
    size: { rows: 24, cols: 80 },
    stdin: false,
  });
  const exec = await agent.message("exec");
  assert.deepEqual(exec, {
    type: "exec",
    process: 2,
    argv: ["ls", "-l"],
    env: ["A=b"],
    tty: true,
    size: { rows: 24, cols: 80 },
    stdin: false,
    streams: { stdin: 4, stdout: 5, stderr: 6 },
  });
  agent.say({ type: "started", process: 2 });
  await process.started;
  process.signal(15);
  process.resize({ rows: 10, cols: 20 });
  assert.deepEqual(await agent.message("signal"), { type: "signal", process: 2, signal: 15 });
  assert.deepEqual(await agent.message("resize"), { type: "resize", process: 2, rows: 10, cols: 20 });
  agent.data(5, "listing");
  agent.say({ type: "exit", process: 2, signal: 15 });
  assert.equal(await text(process.stdout), "listing");
  assert.deepEqual(await process.exit, { signal: 15 });
});

test("a refusal names the manifest line to change, without the guest's control characters", async () => {
  const { session, agent } = await running();
  const process = session.exec({ argv: ["sh"], env: [], tty: false, stdin: false });
  await agent.message("exec");
  agent.say({
    type: "refused",
    process: 2,
    reason: "exec of \u001b[31msh is not granted",
    key: "allow.exec",
  });
  await assert.rejects(process.exit, (e: unknown) => {
    assert.ok(e instanceof GuestError);
    assert.equal(e.code, "GUEST_REFUSED");
    assert.equal(e.message, "exec of  [31msh is not granted");
    assert.equal(e.detail, "allow.exec");
    assert.match(e.hint ?? "", /change allow\.exec in shelter\.yaml .* another measurement/);
    return true;
  });
});

test("a refused main process ends the session with the refusal", async () => {
  const { session, agent } = open();
  agent.say(HELLO);
  await agent.message("boot");
  agent.say({ type: "refused", process: 1, reason: "arguments are not granted", key: "allow.args" });
  agent.say({ type: "bye" });
  await assert.rejects(session.ended, { code: "GUEST_REFUSED", kind: "refused" });
  await assert.rejects(session.main.started, { code: "GUEST_REFUSED" });
});

test("a failure of the guest keeps its own code and step", async () => {
  const { session, agent } = open();
  agent.say(HELLO);
  await agent.message("boot");
  agent.say({ type: "failed", code: "BROKER_REFUSED", message: "pcr 4 is not expected", step: "verdict" });
  agent.transport.end();
  await assert.rejects(session.ended, {
    code: "GUEST_FAILED",
    kind: "refused",
    message: "pcr 4 is not expected",
    detail: "BROKER_REFUSED",
    step: "verdict",
  });
});

test("a connection that just ends says where the guest was", async () => {
  const early = open();
  early.agent.transport.end();
  await assert.rejects(early.session.ended, {
    code: "GUEST_LOST",
    message: "the guest was lost before its agent said hello",
  });
  const late = open();
  late.agent.say(HELLO);
  late.agent.say({ type: "step", step: "root", ms: 1 });
  await late.agent.message("boot");
  late.agent.transport.end();
  await assert.rejects(late.session.ended, {
    code: "GUEST_LOST",
    message: "the guest was lost after step root",
  });
  await assert.rejects(late.session.main.exit, { code: "GUEST_LOST" });
});

for (const [name, message] of [
  ["anything before hello", { type: "bye" }],
  ["a step before hello", { type: "step", step: "root", ms: 1 }],
] as const) {
  test(`ends the session on ${name}`, async () => {
    const { session, agent } = open();
    agent.say(message);
    await assert.rejects(session.ended, { code: "CONTROL_UNEXPECTED" });
  });
}

for (const [name, message] of [
  ["a second hello", HELLO],
  ["bye while the process runs", { type: "bye" }],
  ["the end of a process nobody started", { type: "exit", process: 9, code: 0 }],
] as const) {
  test(`ends the session on ${name}`, async () => {
    const { session, agent } = await running();
    agent.say(message);
    await assert.rejects(session.ended, { code: "CONTROL_UNEXPECTED" });
  });
}

test("relays requests and their answers, and turns failures into http-error", async () => {
  const seen: RelayRequest[] = [];
  const { session, agent } = await running({
    relay: (request) => {
      seen.push(request);
      if (request.path.endsWith("down")) return Promise.reject(new Error("connect ECONNREFUSED 127.0.0.1:1"));
      if (request.path.endsWith("huge")) return Promise.resolve({ status: 200, body: Buffer.alloc(800_000) });
      return Promise.resolve({ status: 401, cookie: "a=b", body: Buffer.from("no") });
    },
  });
  agent.say({ type: "http", id: 1, method: "POST", path: "/kbs/v0/auth", cookie: "c=d", body: "e30=" });
  assert.deepEqual(await agent.message("http-response"), {
    type: "http-response",
    id: 1,
    status: 401,
    cookie: "a=b",
    body: Buffer.from("no").toString("base64"),
  });
  assert.equal(Buffer.from(seen[0]?.body ?? "").toString(), "{}");
  assert.equal(seen[0]?.cookie, "c=d");
  agent.say({ type: "http", id: 2, method: "GET", path: "/kbs/v0/down" });
  assert.deepEqual(await agent.message("http-error"), {
    type: "http-error",
    id: 2,
    message: "connect ECONNREFUSED 127.0.0.1:1",
  });
  agent.say({ type: "http", id: 3, method: "GET", path: "/kbs/v0/huge" });
  assert.match(
    String((await agent.message("http-error", 1))["message"]),
    /http-response\.body has 800000 bytes/,
  );
  agent.say({ type: "exit", process: 1, code: 0 });
  agent.say({ type: "bye" });
  assert.deepEqual(await session.ended, { code: 0 });
});

test("a guest that asks for too much at once is ended", async () => {
  const { session, agent } = await running({ relay: () => new Promise(() => {}) });
  for (let id = 1; id <= 5; id++) agent.say({ type: "http", id, method: "GET", path: "/kbs/v0/a" });
  await assert.rejects(session.ended, {
    code: "CONTROL_UNEXPECTED",
    message: "the guest sent http where it may not",
  });
});

test("a guest that never reads is ended before its answers fill the memory", async () => {
  const { session, agent } = await running();
  agent.transport.pause();
  for (let i = 0; i < 1_000_000 && !agent.transport.writableNeedDrain; i++) agent.data(99, "x");
  const pump = setInterval(() => {
    for (let i = 0; i < 20_000 && !agent.transport.writableNeedDrain; i++) agent.data(99, "x");
  }, 1);
  try {
    await assert.rejects(session.ended, { code: "PEER_DEAF" });
  } finally {
    clearInterval(pump);
  }
});

test("connections to guest ports carry both directions and end with their reason", async () => {
  const { session, agent } = await running();
  const connection = session.connect(6379);
  assert.deepEqual(await agent.message("connect"), { type: "connect", stream: 4, port: 6379 });
  connection.write("PING");
  await agent.until(() => (agent.received(4).length === 4 ? true : undefined), "PING");
  agent.data(4, "PONG");
  const [reply] = (await connection.take(1).toArray()) as Buffer[];
  assert.equal(reply?.toString(), "PONG");
  const refused = session.connect(80);
  refused.on("error", () => {});
  const error = new Promise<Error>((resolve) => refused.once("error", resolve));
  await agent.message("connect", 1);
  agent.send(5, 5, "port 80 is not granted");
  assert.equal((await error).message, "port 80 is not granted");
});

test("stop, and what cannot be asked of a guest that is not up", async () => {
  const { session } = open();
  assert.throws(() => session.exec({ argv: ["ls"], env: [], tty: false, stdin: false }), {
    code: "SESSION_CLOSED",
  });
  assert.throws(() => session.connect(1), { code: "SESSION_CLOSED" });
  const up = await running();
  up.session.stop(3);
  assert.deepEqual(await up.agent.message("stop"), { type: "stop", timeout: 3 });
});

test("refuses requests the protocol cannot carry, before they are sent", async () => {
  const { session, agent } = await running();
  assert.throws(() => session.exec({ argv: ["a\0b"], env: [], tty: false, stdin: false }), {
    code: "REQUEST_INVALID",
    kind: "usage",
  });
  assert.throws(() => session.exec({ argv: ["a"], env: ["novalue"], tty: false, stdin: false }), {
    code: "REQUEST_INVALID",
  });
  const big = Array.from({ length: 20 }, () => "x".repeat(100_000));
  assert.throws(() => session.exec({ argv: ["a", ...big], env: [], tty: false, stdin: false }), {
    code: "REQUEST_INVALID",
    message: /at most 1048576 fit/,
  });
  assert.equal(agent.frames.filter((f) => f.kind === 1).length, 1, "only boot was sent");
  const next = session.exec({ argv: ["a"], env: [], tty: false, stdin: false });
  await agent.message("exec");
  agent.say({ type: "exit", process: next.id, code: 0 });
  assert.deepEqual(await next.exit, { code: 0 });
});

test("carries a hundred MiB through one stream unharmed", async () => {
  const { session, agent } = await running();
  const total = 100 << 20;
  let echoed = 0;
  let wrong = 0;
  const mark = (i: number): number => (i * 31 + (i >> 16)) & 255;
  // The fake guest is `cat`: what comes on stdin goes to stdout, window by window.
  let given = INITIAL_WINDOW;
  const backlog: Buffer[] = [];
  let seen = 0;
  const pump = (): void => {
    for (; seen < agent.frames.length; seen++) {
      const f = agent.frames[seen] as WireFrame;
      if (f.kind === 2 && f.stream === 1) backlog.push(f.payload);
      if (f.kind === 3 && f.stream === 2) given += f.payload.readUInt32LE(0);
      if (f.kind === 4 && f.stream === 1) ended = true;
    }
    agent.frames.length = 0;
    seen = 0;
    while (backlog.length > 0 && given >= (backlog[0] as Buffer).length) {
      const piece = backlog.shift() as Buffer;
      given -= piece.length;
      agent.data(2, piece);
      agent.window(1, piece.length);
    }
    if (ended && backlog.length === 0) {
      agent.send(4, 2);
      agent.say({ type: "exit", process: 1, code: 0 });
      agent.say({ type: "bye" });
      ended = false;
    }
  };
  let ended = false;
  agent.transport.on("data", () => pump());
  session.main.stdout.on("data", (d: Buffer) => {
    for (let i = 0; i < d.length; i += 997) if (d[i] !== mark(echoed + i)) wrong++;
    echoed += d.length;
  });
  const piece = Buffer.alloc(65536);
  for (let at = 0; at < total; at += piece.length) {
    for (let i = 0; i < piece.length; i++) piece[i] = mark(at + i);
    if (!session.main.stdin.write(Buffer.from(piece))) {
      await new Promise((resolve) => session.main.stdin.once("drain", resolve));
    }
  }
  session.main.stdin.end();
  assert.deepEqual(await session.ended, { code: 0 });
  assert.equal(echoed, total);
  assert.equal(wrong, 0);
});
