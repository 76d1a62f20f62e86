import assert from "node:assert/strict";
import { Writable } from "node:stream";
import { test } from "node:test";
import { file, flattenLayers, sha, tar } from "./make.ts";

const LAYER = tar(file("a", "x".repeat(2 ** 20)));

test("a stream that fails rejects the writing with its reason, once", async (t) => {
  const tree = await flattenLayers(t, [LAYER]);
  const stream = new Writable({
    write(_chunk, _encoding, done) {
      done(new Error("no space left on device"));
    },
  });
  await assert.rejects(tree.writeTar(stream), (error: Error) => {
    assert.equal(error.message, "cannot write the flattened tree");
    assert.equal((error.cause as Error).message, "no space left on device");
    return true;
  });
  assert.ok(stream.destroyed);
});

test("the end marker is only written when every digest was right", async (t) => {
  const wrong = await flattenLayers(t, [LAYER], { diffIds: [`sha256:${sha("other")}`] });
  const right = await flattenLayers(t, [LAYER]);
  const collect = (into: Buffer[]): Writable =>
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        into.push(Buffer.from(chunk));
        done();
      },
    });
  const [good, bad]: [Buffer[], Buffer[]] = [[], []];
  await right.writeTar(collect(good));
  const stream = collect(bad);
  await assert.rejects(wrong.writeTar(stream), /content digest is/);
  assert.ok(stream.destroyed);
  assert.ok(Buffer.concat(bad).length < Buffer.concat(good).length - 1024);
});

test("a slow stream is never given more than two buffers ahead", async (t) => {
  const tree = await flattenLayers(t, [LAYER]);
  let most = 0;
  const stream = new Writable({
    highWaterMark: 1,
    write(_chunk, _encoding, done) {
      most = Math.max(most, stream.writableLength);
      setImmediate(done);
    },
  });
  await tree.writeTar(stream);
  assert.ok(most <= 2 * 256 * 1024, `${most} bytes were waiting`);
});

test("no file's content is ever held, however large", async (t) => {
  const size = 256 * 2 ** 20;
  const hole = { "GNU.sparse.size": String(size), "GNU.sparse.map": "0,1" };
  const tree = await flattenLayers(t, [tar(file("a", "x", { pax: hole }))]);
  const before = process.memoryUsage().arrayBuffers;
  let most = 0;
  let bytes = 0;
  await tree.writeTar(
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        bytes += chunk.length;
        most = Math.max(most, process.memoryUsage().arrayBuffers - before);
        done();
      },
    }),
  );
  assert.equal(bytes, size + 4 * 512);
  assert.ok(most < 4 * 2 ** 20, `${most} bytes were held`);
});
