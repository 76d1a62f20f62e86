import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, linkSync, mkdirSync, rmSync, symlinkSync, utimesSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { flatten, openSource } from "../src/index.ts";
import { list, scratch, written } from "./make.ts";

function checkout(t: TestContext): string {
  const path = join(scratch(t), "root");
  mkdirSync(join(path, "etc/empty"), { recursive: true });
  writeFileSync(join(path, "etc/passwd"), "root:x:0:0\n");
  writeFileSync(join(path, "etc/nothing"), "");
  mkdirSync(join(path, "bin"));
  writeFileSync(join(path, "bin/tool"), "t".repeat(600_000));
  chmodSync(join(path, "bin/tool"), 0o4755);
  linkSync(join(path, "bin/tool"), join(path, "bin/again"));
  symlinkSync("/bin/tool", join(path, "sh"));
  writeFileSync(join(path, ".wh.tool"), "a name like any other here");
  chmodSync(join(path, "etc/empty"), 0o1777);
  return path;
}

test("reads a directory as it is, without owners and times", async (t) => {
  const path = checkout(t);
  const source = await openSource(path);
  assert.equal(source.kind, "directory");
  assert.equal(source.configDigest, null);
  assert.deepEqual(source.layers, []);
  const tree = await flatten(source);
  assert.equal((await tree.readFile("/etc/passwd", 100))?.toString(), "root:x:0:0\n");
  const names = list(await written(tree));
  assert.deepEqual(
    [...names].map(([name, { line }]) => `${name}: ${line}`).filter((line) => !line.startsWith(": ")),
    [
      "bin: 5 755 0:0 0",
      "etc: 5 755 0:0 0",
      "etc/empty: 5 1777 0:0 0",
      "etc/nothing: 0 644 0:0 0",
      "sh: 2 777 0:0 0 -> /bin/tool",
      ".wh.tool: 0 644 0:0 0",
      "bin/again: 0 4755 0:0 0",
      "bin/tool: 1 4755 0:0 0 -> bin/again",
      "etc/passwd: 0 644 0:0 0",
    ],
  );
  assert.equal(names.get("bin/again")?.data, "t".repeat(600_000));
});

test("gives the same bytes from another folder and another day", async (t) => {
  const [one, two] = [checkout(t), checkout(t)];
  utimesSync(join(two, "etc/passwd"), 1, 1);
  const bytes = await written(await flatten(await openSource(one)));
  assert.ok(bytes.equals(await written(await flatten(await openSource(`dir:${two}`)))));
});

test("keeps a file's own extended attributes", async (t) => {
  const path = checkout(t);
  const script = "import os,sys; os.setxattr(sys.argv[1], 'user.shelter', b'a=b\\0c')";
  const set = spawnSync("python3", ["-c", script, join(path, "etc/passwd")], { encoding: "utf8" });
  if (set.status !== 0) {
    t.skip(`cannot set an extended attribute here: ${set.stderr?.trim().split("\n").at(-1) ?? set.error}`);
    return;
  }
  const tree = await flatten(await openSource(path));
  assert.deepEqual(tree.notes, []);
  const want = Buffer.from("a=b\0c").toString("hex");
  assert.equal(list(await written(tree)).get("etc/passwd")?.line, `0 644 0:0 0 user.shelter=${want}`);
});

test("refuses a socket by its name", async (t) => {
  const path = checkout(t);
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(join(path, "etc/listen.sock"), resolve));
  t.after(() => server.close());
  await assert.rejects(flatten(await openSource(path)), /etc\/listen\.sock" is a socket/);
});

test("refuses a file or a directory that changes between the two readings", async (t) => {
  for (const change of [
    (path: string) => writeFileSync(join(path, "bin/tool"), "other"),
    (path: string) => utimesSync(join(path, "etc/passwd"), 5, 5),
    (path: string) => writeFileSync(join(path, "etc/new"), "1"),
    (path: string) => rmSync(join(path, "sh")),
    (path: string) => writeFileSync(join(path, "etc/nothing"), "now something"),
  ]) {
    const path = checkout(t);
    const tree = await flatten(await openSource(path));
    change(path);
    await assert.rejects(written(tree), /changed while it was being read/);
  }
});

test("refuses a file that became a symlink or a fifo meanwhile, without following or waiting", async (t) => {
  const path = checkout(t);
  const tree = await flatten(await openSource(path));
  rmSync(join(path, "etc/passwd"));
  symlinkSync("/etc/hostname", join(path, "etc/passwd"));
  await assert.rejects(written(tree), /cannot read ".*etc\/passwd"/);
  rmSync(join(path, "etc/passwd"));
  assert.equal(spawnSync("mkfifo", [join(path, "etc/passwd")]).status, 0);
  await assert.rejects(written(tree), /passwd" changed while/);
});

test("keeps to its limits", async (t) => {
  const path = checkout(t);
  const source = await openSource(path);
  await assert.rejects(flatten(source, { limits: { entries: 3 } }), /more than 3 entries/);
  await assert.rejects(
    flatten(source, { limits: { treeBytes: 1000 } }),
    /the tree has 600037 bytes, at most 1000/,
  );
});
