// Random and damaged bytes against the host's end of the agent protocol: `node fuzz/agent-protocol.fuzz.ts [seconds] [seed]`.
import { readFileSync } from "node:fs";
import { PassThrough } from "node:stream";
import { ShelterError } from "@shelter/base";
import { FrameDecoder, Mux, parseMessage } from "@shelter/guest";

const seconds = Number(process.argv[2] ?? 10);
const seed = Number(process.argv[3] ?? Date.now() % 1_000_000_000);
console.log(`seed ${seed}, ${seconds} s`);
let a = seed >>> 0;
function random(): number {
  a = (a + 0x6d2b79f5) >>> 0;
  let t = a;
  t = Math.imul(t ^ (t >>> 15), t | 1);
  t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
}
const upTo = (n: number): number => Math.floor(random() * n);

const vectors = JSON.parse(
  readFileSync(new URL("../schema/agent-protocol.vectors.json", import.meta.url), "utf8"),
) as { frames: { bytes: string }[]; messages: { guest: object[]; host: object[] } };
const frames = vectors.frames.map((f) => Buffer.from(f.bytes, "hex")).filter((b) => b.length > 0);
const messages = [...vectors.messages.guest, ...vectors.messages.host].map((m) =>
  Buffer.from(JSON.stringify(m)),
);

function damage(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  for (let n = upTo(4); n > 0 && copy.length > 0; n--) copy[upTo(copy.length)] = upTo(256);
  return random() < 0.2 ? copy.subarray(0, upTo(copy.length + 1)) : copy;
}

/** Only named refusals may come out. */
function refusesByName(run: () => void): void {
  try {
    run();
  } catch (error) {
    if (!(error instanceof ShelterError) || error.kind === "bug") throw error;
  }
}

let rounds = 0;
const until = performance.now() + seconds * 1000;
while (performance.now() < until) {
  rounds++;
  const bytes = Buffer.concat(
    Array.from({ length: 1 + upTo(5) }, () => damage(frames[upTo(frames.length)] ?? Buffer.alloc(0))),
  );
  refusesByName(() => {
    const decoder = new FrameDecoder((f) => f.payload.byteLength);
    for (let at = 0; at < bytes.length; ) {
      const size = 1 + upTo(30);
      decoder.push(bytes.subarray(at, at + size));
      at += size;
    }
  });
  const message = damage(messages[upTo(messages.length)] ?? Buffer.alloc(0));
  refusesByName(() => parseMessage(random() < 0.5 ? "guest" : "host", message));
  // A connection with streams open takes the same bytes: it may end, never throw.
  const transport = new PassThrough();
  const mux = new Mux(transport, { control: (p) => void parseMessage("guest", p), ended: () => {} });
  for (const direction of ["in", "out", "both"] as const) mux.stream(direction).on("error", () => {});
  transport.emit("data", bytes);
  mux.close();
  transport.destroy();
  if (rounds % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
}
console.log(`${rounds} rounds, nothing found`);
