import assert from "node:assert/strict";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { after, before, test } from "node:test";
import { MountSource, serveFiles } from "../src/index.ts";
import { seeded } from "./fake-agent.ts";
import { FusePeer, text, u32, u64 } from "./fuse-peer.ts";

// What Linux would never send. What it does send is in fuse.host.test.ts.

const base = fs.mkdtempSync(join(tmpdir(), "shelter-fuse-"));
const source = join(base, "source");
before(() => {
  fs.mkdirSync(join(source, "dir"), { recursive: true });
  fs.writeFileSync(join(base, "secret"), "secret");
  fs.writeFileSync(join(source, "file"), "content");
  fs.symlinkSync("..", join(source, "up"));
  fs.symlinkSync("../secret", join(source, "leak"));
  fs.symlinkSync("/", join(source, "root"));
});
after(() => fs.rmSync(base, { recursive: true, force: true }));

const [EPERM, ENOENT, EIO, EBADF, EACCES, ENOTDIR, EINVAL, EROFS, ENAMETOOLONG, ENOSYS, ESTALE] = [
  1, 2, 5, 9, 13, 20, 22, 30, 36, 38, 116,
];

function peer(readOnly = false): FusePeer {
  const p = new FusePeer(source, readOnly);
  assert.equal(p.init().errno, 0);
  return p;
}

test("nothing works before init, and another major version never does", () => {
  const p = new FusePeer(source);
  assert.equal(p.lookup(1n, "file"), BigInt(-EIO));
  assert.equal(p.call(26, 0n, u32(8, 0, 0, 0)).errno, EIO);
  const { errno, body } = p.init();
  assert.equal(errno, 0);
  assert.deepEqual([body.readUInt32LE(0), body.readUInt32LE(4), body.length], [7, 31, 64]);
  p.close();
});

test("a link is never followed, neither as a directory nor as a file", () => {
  const p = peer();
  for (const name of ["up", "root", "leak"]) {
    const link = p.lookup(1n, name);
    assert.ok(link > 1n, name);
    assert.equal(p.lookup(link, "secret"), BigInt(-ENOTDIR), name);
    assert.equal(p.call(27, link, u32(0, 0)).errno, ENOTDIR, `opendir ${name}`);
    assert.equal(p.call(14, link, u32(0, 0)).errno, EACCES, `open ${name}`);
    assert.notEqual(p.call(35, link, u32(1, 0o644, 0, 0), text("planted")).errno, 0, `create in ${name}`);
    assert.notEqual(p.call(9, link, u32(0o755, 0), text("planted")).errno, 0, `mkdir in ${name}`);
    assert.notEqual(p.call(10, link, text("secret")).errno, 0, `unlink in ${name}`);
  }
  const leak = p.lookup(1n, "leak");
  p.call(4, leak, u32(8, 0), u64(0, 0, 0, 0, 0, 0), u32(0, 0, 0, 0, 0, 0, 0, 0));
  p.call(4, leak, u32(1, 0), u64(0, 0, 0, 0, 0, 0), u32(0, 0, 0, 0o777, 0, 0, 0, 0));
  assert.equal(fs.readFileSync(join(base, "secret"), "utf8"), "secret");
  assert.equal(fs.statSync(join(base, "secret")).mode & 0o777, 0o644);
  assert.deepEqual(fs.readdirSync(base).sort(), ["secret", "source"]);
  p.close();
});

test("a directory swapped for a link while the guest holds it leads nowhere", () => {
  const p = peer();
  fs.mkdirSync(join(source, "held"));
  const held = p.lookup(1n, "held");
  fs.rmdirSync(join(source, "held"));
  fs.symlinkSync("..", join(source, "held"));
  assert.equal(p.lookup(held, "secret"), BigInt(-ENOTDIR));
  fs.unlinkSync(join(source, "held"));
  p.close();
});

test("names that are paths are refused", () => {
  const p = peer();
  for (const name of ["", ".", "..", "../secret", "dir/x", "/etc/passwd"]) {
    assert.equal(p.lookup(1n, name), BigInt(-EINVAL), JSON.stringify(name));
    assert.equal(p.call(10, 1n, text(name)).errno, EINVAL);
    assert.equal(p.call(9, 1n, u32(0o755, 0), text(name)).errno, EINVAL);
    assert.equal(p.call(35, 1n, u32(0x41, 0o644, 0, 0), text(name)).errno, EINVAL);
    assert.equal(p.call(12, 1n, u64(1), text("file"), text(name)).errno, EINVAL);
  }
  assert.equal(p.call(1, 1n, Buffer.from("no end")).errno, EINVAL);
  assert.equal(p.lookup(1n, "x".repeat(256)), BigInt(-ENAMETOOLONG));
  assert.equal(p.lookup(1n, "x".repeat(255)), BigInt(-ENOENT));
  p.close();
});

test("numbers nobody was given are refused", () => {
  const p = peer();
  assert.equal(p.lookup(999n, "file"), BigInt(-ESTALE));
  assert.equal(p.lookup(0n, "file"), BigInt(-ESTALE));
  assert.equal(p.call(15, 1n, u64(77, 0), u32(10, 0), u64(0), u32(0, 0)).errno, EBADF);
  assert.equal(p.call(16, 1n, u64(77, 0), u32(1, 0), u64(0), u32(0, 0), Buffer.from("x")).errno, EBADF);
  assert.equal(p.call(28, 1n, u64(77, 0), u32(100, 0), u64(0), u32(0, 0)).errno, EBADF);
  assert.equal(p.call(99, 1n).errno, ENOSYS);
  const file = p.lookup(1n, "file");
  p.raw(Buffer.concat([p.header(2, file, 500n), u64(1000)]));
  assert.equal(p.call(3, file, u32(0, 0), u64(0)).errno, ESTALE, "forgotten");
  p.raw(Buffer.concat([p.header(2, 1n, 501n), u64(1000)]));
  assert.ok(p.lookup(1n, "file") > 1n, "the root is never forgotten");
  p.close();
});

test("special files are neither made nor opened", () => {
  const p = peer();
  for (const type of [0o020000, 0o060000, 0o010000, 0o140000]) {
    assert.equal(
      p.call(8, 1n, u32(type | 0o666, 0x103, 0, 0), text("special")).errno,
      EPERM,
      type.toString(8),
    );
  }
  assert.equal(p.call(8, 1n, u32(0o106755, 0, 0, 0), text("plain")).errno, 0);
  assert.equal(fs.statSync(join(source, "plain")).mode & 0o7777, 0o755, "without its set-id bits");
  fs.unlinkSync(join(source, "plain"));
  p.close();
});

test("a read-only source takes nothing, whatever the flags say", () => {
  const p = peer(true);
  const file = p.lookup(1n, "file");
  for (const flags of [1, 2, 0o1000, 0o1001])
    assert.equal(p.call(14, file, u32(flags, 0)).errno, EROFS, String(flags));
  const { errno, body } = p.call(14, file, u32(0, 0));
  assert.equal(errno, 0);
  const handle = body.readBigUInt64LE(0);
  assert.equal(p.call(16, file, u64(handle, 0), u32(1, 0), u64(0), u32(0, 0), Buffer.from("x")).errno, EROFS);
  assert.equal(p.call(4, file, u32(1, 0), u64(0, 0, 0, 0, 0, 0), u32(0, 0, 0, 0, 0, 0, 0, 0)).errno, EROFS);
  assert.equal(fs.readFileSync(join(source, "file"), "utf8"), "content");
  p.close();
});

test("reads and writes keep to what they carry", () => {
  const p = peer();
  const file = p.lookup(1n, "file");
  const handle = p.call(14, file, u32(2, 0)).body.readBigUInt64LE(0);
  const read = p.call(15, file, u64(handle, 3), u32(0xffffffff, 0), u64(0), u32(0, 0));
  assert.equal(read.body.toString(), "tent");
  assert.equal(
    p.call(16, file, u64(handle, 0), u32(100, 0), u64(0), u32(0, 0), Buffer.from("short")).errno,
    EIO,
  );
  assert.equal(p.call(15, file, u64(handle, 2n ** 63n), u32(1, 0), u64(0), u32(0, 0)).errno, EINVAL);
  assert.equal(fs.readFileSync(join(source, "file"), "utf8"), "content");
  p.close();
});

test("a stream that is no FUSE ends that mount and nothing else", async () => {
  const stream = new PassThrough();
  serveFiles(stream, new MountSource(source, false));
  const closed = new Promise((resolve) => stream.once("close", resolve));
  stream.on("error", () => {});
  stream.write(u32(10));
  await closed;
});

test("any bytes get an answer or none, and nothing outside is touched", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  const random = seeded(seed);
  const p = peer();
  const ops = [
    1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 20, 25, 26, 27, 28, 29, 30, 35, 36, 42, 44,
    45, 46, 47,
  ];
  const names = ["file", "dir", "up", "leak", "root", "a", "b", "..", "x/y", ""];
  const pick = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)] as T;
  for (let round = 0; round < 4000; round++) {
    const parts: Buffer[] = [];
    for (let n = Math.floor(random() * 8); n > 0; n--) {
      const kind = random();
      if (kind < 0.4) parts.push(text(pick(names)));
      else if (kind < 0.7) parts.push(u64(Math.floor(random() * 12)));
      else if (kind < 0.9) parts.push(u32(Math.floor(random() * 0x200)));
      else parts.push(u64(BigInt(Math.floor(random() * 2 ** 32)) << 32n));
    }
    const request = Buffer.concat([
      p.header(pick(ops), BigInt(Math.floor(random() * 12)), BigInt(round + 1000)),
      ...parts,
    ]);
    try {
      p.raw(request);
    } catch (error) {
      assert.fail(`seed ${seed} round ${round}: ${String(error)}`);
    }
    p.replies.length = 0;
  }
  p.close();
  assert.equal(fs.readFileSync(join(base, "secret"), "utf8"), "secret", `seed ${seed}`);
  assert.deepEqual(fs.readdirSync(base).sort(), ["secret", "source"], `seed ${seed}`);
});
