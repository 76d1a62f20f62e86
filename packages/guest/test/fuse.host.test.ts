import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { Worker } from "node:worker_threads";

// The oracle is Linux itself: its FUSE client mounts what the server serves, and ordinary programs use it.

const why =
  process.getuid?.() !== 0
    ? "needs root to mount"
    : !fs.existsSync("/dev/fuse")
      ? "needs /dev/fuse"
      : undefined;

/** Mounts `source` at `target`; the server runs in a thread, since this one blocks in what it serves. */
async function mount(source: string, target: string, readOnly: boolean): Promise<() => Promise<void>> {
  const fd = fs.openSync("/dev/fuse", fs.constants.O_RDWR);
  const kind = fs.statSync(source).isDirectory() ? "40000" : "100000";
  execFileSync(
    "mount",
    ["-i", "-t", "fuse", "-o", `fd=3,rootmode=${kind},user_id=0,group_id=0,allow_other`, "test", target],
    {
      stdio: ["ignore", "inherit", "inherit", fd],
    },
  );
  const worker = new Worker(new URL("./fuse-worker.ts", import.meta.url), {
    workerData: { fd, source, readOnly },
  });
  await new Promise((resolve) => worker.once("message", resolve));
  return async () => {
    spawnSync("umount", ["-l", target]);
    await worker.terminate();
    try {
      fs.closeSync(fd);
    } catch {
      // closed with the thread
    }
  };
}

describe("the file server under Linux's own FUSE client", { skip: why }, () => {
  const base = fs.mkdtempSync(join(tmpdir(), "shelter-fuse-"));
  const source = join(base, "source");
  const target = join(base, "target");
  const outside = join(base, "outside");
  const stops: (() => Promise<void>)[] = [];

  before(async () => {
    for (const d of [source, target, outside]) fs.mkdirSync(d);
    fs.writeFileSync(join(outside, "secret"), "secret");
    fs.writeFileSync(join(source, "hello"), "hello\n");
    stops.push(await mount(source, target, false));
  });
  after(async () => {
    for (const stop of stops) await stop();
    fs.rmSync(base, { recursive: true, force: true });
  });
  const at = (name: string): string => join(target, name);
  const code = (run: () => unknown): string => {
    try {
      run();
      return "ok";
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? String(error);
    }
  };

  test("files written on either side are the same on the other", () => {
    assert.equal(fs.readFileSync(at("hello"), "utf8"), "hello\n");
    const big = Buffer.alloc(3_000_001, "abcdefg");
    fs.writeFileSync(at("big"), big);
    assert.ok(fs.readFileSync(join(source, "big")).equals(big));
    assert.ok(fs.readFileSync(at("big")).equals(big));
    fs.appendFileSync(at("big"), "end");
    assert.equal(fs.statSync(at("big")).size, big.length + 3);
    fs.truncateSync(at("big"), 5);
    assert.equal(fs.readFileSync(join(source, "big"), "utf8"), "abcde");
    fs.writeFileSync(at("big"), "short");
    assert.equal(fs.readFileSync(join(source, "big"), "utf8"), "short");
  });

  test("attributes are those of the host", () => {
    const a = fs.lstatSync(at("hello"), { bigint: true });
    const b = fs.lstatSync(join(source, "hello"), { bigint: true });
    for (const key of [
      "size",
      "mode",
      "nlink",
      "uid",
      "gid",
      "mtimeNs",
      "ctimeNs",
      "ino",
      "blocks",
    ] as const) {
      assert.equal(a[key], b[key], key);
    }
    fs.chmodSync(at("hello"), 0o640);
    assert.equal(fs.statSync(join(source, "hello")).mode & 0o7777, 0o640);
    fs.utimesSync(at("hello"), 1000, 2000.5);
    assert.equal(fs.statSync(join(source, "hello")).mtimeMs, 2_000_500);
    assert.equal(fs.statSync(join(source, "hello")).atimeMs, 1_000_000);
    fs.chownSync(at("hello"), 12, 34);
    assert.equal(fs.statSync(join(source, "hello")).uid, 12);
    assert.equal(fs.statfsSync(target).bsize, fs.statfsSync(source).bsize);
  });

  test("a guest cannot leave set-user-id files or devices on the host", () => {
    fs.writeFileSync(at("suid"), "x", { mode: 0o777 });
    fs.chmodSync(at("suid"), 0o6755);
    assert.equal(fs.statSync(join(source, "suid")).mode & 0o7777, 0o755);
    assert.notEqual(spawnSync("mknod", [at("null"), "c", "1", "3"]).status, 0);
    assert.notEqual(spawnSync("mkfifo", [at("fifo")]).status, 0);
    assert.ok(!fs.existsSync(join(source, "null")) && !fs.existsSync(join(source, "fifo")));
  });

  test("directories are made, listed, moved and removed", () => {
    fs.mkdirSync(at("d/e/f"), { recursive: true });
    for (let i = 0; i < 1200; i++) fs.writeFileSync(join(source, "d", `file-${i}`), "");
    const names = fs.readdirSync(at("d"));
    assert.equal(names.length, 1201);
    assert.equal(new Set(names).size, 1201);
    assert.equal(
      spawnSync("ls", ["-l", at("d")])
        .stdout.toString()
        .split("\n").length,
      1203,
    );
    assert.equal(
      code(() => fs.rmdirSync(at("d"))),
      "ENOTEMPTY",
    );
    fs.renameSync(at("d"), at("moved"));
    fs.writeFileSync(at("moved/e/f/x"), "deep");
    assert.equal(fs.readFileSync(join(source, "moved/e/f/x"), "utf8"), "deep");
    fs.rmSync(at("moved"), { recursive: true });
    assert.ok(!fs.existsSync(join(source, "moved")));
  });

  test("renames replace, and refuse to where they must not", () => {
    fs.writeFileSync(at("one"), "1");
    fs.writeFileSync(at("two"), "2");
    fs.renameSync(at("one"), at("two"));
    assert.equal(fs.readFileSync(at("two"), "utf8"), "1");
    assert.equal(
      code(() => fs.statSync(at("one"))),
      "ENOENT",
    );
    fs.writeFileSync(at("three"), "3");
    const noClobber = spawnSync("mv", ["-n", at("three"), at("two")]);
    assert.equal(fs.readFileSync(at("two"), "utf8"), "1", String(noClobber.stderr));
  });

  test("hard links and names with any bytes", () => {
    fs.writeFileSync(at("a"), "a");
    fs.linkSync(at("a"), at("b"));
    assert.equal(fs.statSync(at("b")).nlink, 2);
    const odd = Buffer.concat([Buffer.from(`${target}/`), Buffer.from([0xff, 0xfe, 0x20, 0x0a, 0x27])]);
    fs.writeFileSync(odd, "odd");
    const names = fs.readdirSync(source, { encoding: "buffer" }).map((b) => b.toString("hex"));
    assert.ok(names.includes("fffe200a27"));
    fs.unlinkSync(odd);
  });

  test("a file that was removed stays readable while it is open", () => {
    const fd = fs.openSync(at("temporary"), "w+");
    fs.writeSync(fd, "still here");
    fs.unlinkSync(at("temporary"));
    assert.equal(fs.fstatSync(fd).size, 10);
    fs.ftruncateSync(fd, 5);
    const buffer = Buffer.alloc(20);
    assert.equal(fs.readSync(fd, buffer, 0, 20, 0), 5);
    fs.fsyncSync(fd);
    fs.closeSync(fd);
    assert.ok(!fs.existsSync(join(source, "temporary")));
  });

  test("links are kept as they are and lead nowhere on the host", () => {
    fs.symlinkSync("../outside/secret", at("climb"));
    fs.symlinkSync(outside, at("absolute"));
    assert.equal(fs.readlinkSync(join(source, "climb")), "../outside/secret");
    // Linux resolves the link in its own name space, where the target directory's neighbour is the same one;
    // what must not happen is that the server follows it.
    fs.unlinkSync(at("climb"));
    fs.unlinkSync(at("absolute"));
    assert.equal(fs.readFileSync(join(outside, "secret"), "utf8"), "secret");
  });

  test("what the host replaces is seen as new, and what it removes is gone", async () => {
    fs.mkdirSync(join(source, "swap"));
    fs.writeFileSync(join(source, "swap/x"), "old");
    assert.equal(fs.readFileSync(at("swap/x"), "utf8"), "old");
    fs.renameSync(join(source, "swap"), join(source, "swapped"));
    fs.mkdirSync(join(source, "swap"));
    fs.writeFileSync(join(source, "swap/x"), "new");
    await new Promise((resolve) => setTimeout(resolve, 1200));
    assert.equal(fs.readFileSync(at("swap/x"), "utf8"), "new");
    fs.rmSync(join(source, "swap"), { recursive: true });
    await new Promise((resolve) => setTimeout(resolve, 1200));
    assert.equal(
      code(() => fs.readFileSync(at("swap/x"))),
      "ENOENT",
    );
  });

  test("ordinary programs work on it: tar, cp -a, git-like renames, sqlite-like locking", () => {
    fs.mkdirSync(at("tree/sub"), { recursive: true });
    for (let i = 0; i < 50; i++) fs.writeFileSync(at(`tree/sub/${i}`), "y".repeat(i * 977));
    fs.symlinkSync("sub/1", at("tree/link"));
    execFileSync("cp", ["-a", at("tree"), at("copy")]);
    execFileSync("diff", ["-r", join(source, "tree"), join(source, "copy")]);
    execFileSync("sh", [
      "-c",
      `cd ${target} && tar cf t.tar tree && mkdir untar && tar xf t.tar -C untar && diff -r tree untar/tree`,
    ]);
    execFileSync("flock", [at("lock"), "true"]);
  });

  test("a read-only mount takes no change of any kind", async () => {
    const ro = join(base, "ro");
    fs.mkdirSync(ro);
    stops.push(await mount(source, ro, true));
    assert.equal(fs.readFileSync(join(ro, "two"), "utf8"), "1");
    const tries: Record<string, () => unknown> = {
      write: () => fs.writeFileSync(join(ro, "two"), "x"),
      append: () => fs.appendFileSync(join(ro, "two"), "x"),
      create: () => fs.writeFileSync(join(ro, "new"), "x"),
      mkdir: () => fs.mkdirSync(join(ro, "dir")),
      unlink: () => fs.unlinkSync(join(ro, "two")),
      rename: () => fs.renameSync(join(ro, "two"), join(ro, "three")),
      link: () => fs.linkSync(join(ro, "two"), join(ro, "four")),
      symlink: () => fs.symlinkSync("x", join(ro, "five")),
      chmod: () => fs.chmodSync(join(ro, "two"), 0o600),
      truncate: () => fs.truncateSync(join(ro, "two")),
      utimes: () => fs.utimesSync(join(ro, "two"), 1, 1),
    };
    for (const [name, run] of Object.entries(tries)) assert.equal(code(run), "EROFS", name);
    assert.equal(fs.readFileSync(join(source, "two"), "utf8"), "1");
  });

  test("one file can be mounted over a file", async () => {
    const file = join(base, "file");
    fs.writeFileSync(file, "");
    stops.push(await mount(join(source, "two"), file, false));
    assert.equal(fs.readFileSync(file, "utf8"), "1");
    fs.writeFileSync(file, "through");
    assert.equal(fs.readFileSync(join(source, "two"), "utf8"), "through");
  });
});
