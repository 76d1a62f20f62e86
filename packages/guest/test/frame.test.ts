import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { encodeFrame, type Frame, FrameDecoder, GuestError } from "../src/index.ts";
import { seeded } from "./fake-agent.ts";

interface FrameVector {
  name: string;
  bytes: string;
  frames: { kind: string; stream: number; payload: string }[];
  error: string;
}
const vectors = JSON.parse(
  readFileSync(new URL("../../../schema/agent-protocol.vectors.json", import.meta.url), "utf8"),
) as { frames: FrameVector[]; refusedFrames: FrameVector[] };

function decode(bytes: Buffer, size: number): Frame[] {
  const frames: Frame[] = [];
  const decoder = new FrameDecoder((f) => frames.push({ ...f, payload: Buffer.from(f.payload) }));
  for (let at = 0; at < bytes.length; at += size) decoder.push(bytes.subarray(at, at + size));
  return frames;
}

for (const vector of vectors.frames) {
  test(`decodes the shared example: ${vector.name}`, () => {
    const bytes = Buffer.from(vector.bytes, "hex");
    for (const size of [1, 2, 5, 9, 13, Math.max(1, bytes.length)]) {
      const frames = decode(bytes, size).map((f) => ({
        kind: f.kind,
        stream: f.stream,
        payload: Buffer.from(f.payload).toString("hex"),
      }));
      assert.deepEqual(frames, vector.frames, `in pieces of ${size}`);
    }
  });
}

for (const vector of vectors.refusedFrames) {
  test(`refuses the shared example: ${vector.name}`, () => {
    const bytes = Buffer.from(vector.bytes, "hex");
    for (const size of [1, 4, Math.max(1, bytes.length)]) {
      assert.throws(
        () => decode(bytes, size),
        (e: unknown) => e instanceof GuestError && e.code === vector.error,
        `in pieces of ${size}`,
      );
    }
  });
}

test("encodes the shared examples to their bytes", () => {
  for (const vector of vectors.frames) {
    const encoded = Buffer.concat(
      vector.frames.map((f) => encodeFrame(f.kind as Frame["kind"], f.stream, Buffer.from(f.payload, "hex"))),
    );
    const whole = Buffer.from(vector.bytes, "hex");
    assert.equal(whole.subarray(0, encoded.length).toString("hex"), encoded.toString("hex"), vector.name);
  }
});

test("refuses every push after a refused frame", () => {
  const decoder = new FrameDecoder(() => assert.fail("no frame is complete"));
  assert.throws(() => decoder.push(Buffer.from("000000000000000000", "hex")), { code: "FRAME_KIND_UNKNOWN" });
  assert.throws(() => decoder.push(encodeFrame("close", 1, new Uint8Array())), { code: "FRAME_TRUNCATED" });
});

test("refuses an end inside a frame and accepts one between frames", () => {
  const decoder = new FrameDecoder(() => {});
  decoder.push(encodeFrame("data", 1, Buffer.from("x")));
  decoder.end();
  decoder.push(encodeFrame("data", 1, Buffer.from("xy")).subarray(0, 10));
  assert.throws(() => decoder.end(), {
    code: "FRAME_TRUNCATED",
    message: "the connection ended 10 bytes into a frame",
  });
});

test("takes a frame of the largest size in single bytes in linear time and memory", () => {
  const payload = Buffer.alloc(65536, 7);
  const bytes = encodeFrame("data", 3, payload);
  let got = 0;
  const decoder = new FrameDecoder((f) => {
    got += f.payload.length;
  });
  for (let i = 0; i < bytes.length; i++) {
    decoder.push(bytes.subarray(i, i + 1));
    assert.ok(decoder.pending <= 65536 + 9);
  }
  assert.equal(got, 65536);
});

test("yields the frames that were put in, or a named refusal, for random bytes", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  const random = seeded(seed);
  for (let round = 0; round < 400; round++) {
    const parts: Buffer[] = [];
    const expected: string[] = [];
    for (let n = Math.floor(random() * 6); n > 0; n--) {
      const payload = Buffer.from(
        Array.from({ length: 1 + Math.floor(random() * 40) }, () => Math.floor(random() * 256)),
      );
      const stream = 1 + Math.floor(random() * 0xffffffff);
      parts.push(encodeFrame("data", stream, payload));
      expected.push(`${stream}:${payload.toString("hex")}`);
    }
    const bytes = Buffer.concat(parts);
    const damaged = random() < 0.5 && bytes.length > 0;
    if (damaged) {
      const at = Math.floor(random() * bytes.length);
      bytes.writeUInt8((bytes.readUInt8(at) + 1 + Math.floor(random() * 255)) & 255, at);
    }
    try {
      const frames = decode(bytes, 1 + Math.floor(random() * 20));
      const shown = frames.map((f) => `${f.stream}:${Buffer.from(f.payload).toString("hex")}`);
      if (!damaged) assert.deepEqual(shown, expected, `seed ${seed} round ${round}`);
    } catch (error) {
      assert.ok(damaged && error instanceof GuestError, `seed ${seed} round ${round}: ${String(error)}`);
    }
  }
});
