import { connect, type Socket } from "node:net";

// Stands where QEMU stands: connects to the sockets its command line names and plays an agent, written from
// docs/agent-protocol.md. What the guest does is named by FAKE_GUEST.

const args = process.argv.slice(2);
if (args.includes("--version")) {
  console.log("QEMU emulator version 7.2.0 (fake)");
  process.exit(0);
}
if (args.includes("help")) {
  console.log("List of user creatable objects:\n  sev-guest");
  process.exit(0);
}
if (args.some((a) => a.includes("isa-debug-exit"))) process.exit(1);

const behaviour = process.env["FAKE_GUEST"] ?? "cat";
const socketOf = (id: string): string => {
  const chardev = args.find((a) => a.startsWith(`socket,id=${id},`)) ?? "";
  return chardev.slice(chardev.indexOf("path=") + 5).replaceAll(",,", ",");
};

if (behaviour === "no-start") {
  console.error("qemu: cannot do what was asked");
  process.exit(1);
}

const monitor = connect(socketOf("monitor"));
monitor.on("error", () => {});
const agent: Socket = connect(socketOf("agent"));
agent.on("error", () => {});
agent.on("close", () => process.exit(0));

const frame = (kind: number, stream: number, payload: Buffer): void => {
  const header = Buffer.alloc(9);
  header.writeUInt32LE(payload.length, 0);
  header.writeUInt8(kind, 4);
  header.writeUInt32LE(stream, 5);
  agent.write(Buffer.concat([header, payload]));
};
const say = (message: object): void => frame(1, 0, Buffer.from(JSON.stringify(message)));
const out = (stream: number, text: string | Buffer): void => frame(2, stream, Buffer.from(text as string));
const window = (stream: number, bytes: number): void => {
  const b = Buffer.alloc(4);
  b.writeUInt32LE(bytes);
  frame(3, stream, b);
};

interface Proc {
  readonly stdin: number;
  readonly stdout: number;
  readonly stderr: number;
}
const processes = new Map<number, Proc>();
const end = (id: number, how: object): void => {
  const p = processes.get(id);
  if (p === undefined) return;
  processes.delete(id);
  frame(4, p.stdout, Buffer.alloc(0));
  frame(4, p.stderr, Buffer.alloc(0));
  say({ type: "exit", process: id, ...how });
  if (id === 1) say({ type: "bye" });
};

function onControl(m: Record<string, unknown> & { type: string }): void {
  switch (m.type) {
    case "boot": {
      const run = m["run"] as { args: string[] | null; streams: Proc };
      say({ type: "step", step: "manifest", ms: 900 });
      if (behaviour === "refuse") {
        say({ type: "refused", process: 1, reason: "arguments are not granted", key: "allow.args" });
        say({ type: "bye" });
        return;
      }
      if (behaviour === "fail") {
        say({ type: "failed", code: "BROKER_REFUSED", message: "pcr 9 is not expected", step: "verdict" });
        return;
      }
      if (behaviour === "panic") {
        monitor.write('{"event":"SHUTDOWN","data":{"guest":true,"reason":"guest-reset"}}\n');
        setTimeout(() => process.exit(0), 20);
        return;
      }
      if (behaviour === "hang") return;
      if (behaviour === "die") process.kill(process.pid, "SIGKILL");
      processes.set(1, run.streams);
      say({ type: "started", process: 1 });
      const [verb, value] = run.args ?? [];
      if (verb === "exit") {
        out(run.streams.stdout, "out\n");
        out(run.streams.stderr, "err\n");
        end(1, { code: Number(value) });
      }
      if (verb === "signal") end(1, { signal: Number(value) });
      if (verb === "words") {
        out(run.streams.stderr, "something is wrong\n");
        setTimeout(() => process.kill(process.pid, "SIGKILL"), 30);
      }
      if (verb === "lines") {
        for (let i = 0; i < Number(value); i++) out(run.streams.stdout, `line ${i}\n`);
        end(1, { code: 0 });
      }
      return;
    }
    case "exec": {
      const id = m["process"] as number;
      const argv = m["argv"] as string[];
      if (argv[0] === "forbidden") {
        say({ type: "refused", process: id, reason: "exec of forbidden is not granted", key: "allow.exec" });
        return;
      }
      processes.set(id, m["streams"] as Proc);
      say({ type: "started", process: id });
      if (argv[0] === "echo") {
        out((m["streams"] as Proc).stdout, `${argv.slice(1).join(" ")}\n`);
        end(id, { code: 3 });
      }
      return;
    }
    case "signal":
      if (!(behaviour === "deaf" && m["process"] === 1)) end(m["process"] as number, { signal: m["signal"] });
      return;
    case "stop":
      if (behaviour !== "deaf") end(1, { signal: 15 });
      return;
    case "bye":
      process.exit(0);
  }
}

let rest = Buffer.alloc(0);
agent.on("data", (piece: Buffer) => {
  rest = Buffer.concat([rest, piece]);
  while (rest.length >= 9 && rest.length >= 9 + rest.readUInt32LE(0)) {
    const length = rest.readUInt32LE(0);
    const kind = rest.readUInt8(4);
    const stream = rest.readUInt32LE(5);
    const payload = rest.subarray(9, 9 + length);
    rest = rest.subarray(9 + length);
    const owner = [...processes].find(([, p]) => p.stdin === stream);
    if (kind === 1) onControl(JSON.parse(payload.toString()));
    if (kind === 2 && owner !== undefined) {
      out(owner[1].stdout, payload);
      window(stream, payload.length);
    }
    if (kind === 4 && owner !== undefined) end(owner[0], { code: 0 });
  }
});
if (behaviour !== "silent") agent.on("connect", () => say({ type: "hello", protocol: 1, agent: "fake" }));
