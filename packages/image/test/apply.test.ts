import assert from "node:assert/strict";
import { test } from "node:test";
import { dir, file, flattenLayers, link, list, namesOf, symlink, tar, written } from "./make.ts";

const CAPABILITY = Buffer.from("0100000200040000000000000000000000000000", "hex");

test("a whiteout hides a file and a directory of lower layers, and nothing else", async (t) => {
  const tree = await flattenLayers(t, [
    tar(dir("d"), file("d/a", "1"), file("d/b", "2"), dir("e"), file("e/x", "3"), file("wh", "4")),
    tar(file("d/.wh.a"), file(".wh.e"), file(".wh.nothing"), file("no/where/.wh.x"), file("no/.wh..wh..opq")),
  ]);
  assert.deepEqual(await namesOf(tree), ["d", "d/b", "wh"]);
});

test("a whiteout hides nothing of its own layer, before or behind it", async (t) => {
  const tree = await flattenLayers(t, [
    tar(file("before", "old"), file("behind", "old"), dir("d", { mode: 0o700 }), file("d/low", "old")),
    tar(
      file("before", "new"),
      file(".wh.before"),
      file(".wh.behind"),
      file("behind", "new"),
      file("d/new", "n"),
      file(".wh.d"),
    ),
  ]);
  const names = list(await written(tree));
  assert.deepEqual([...names.keys()].sort(), ["", "before", "behind", "d", "d/new"]);
  assert.equal(names.get("before")?.data, "new");
  assert.equal(names.get("behind")?.data, "new");
  assert.equal(names.get("d")?.line, "5 755 0:0 0", "a directory whose entry was hidden is an implicit one");
});

test("an opaque directory hides lower children, however deep, and keeps its layer's in either order", async (t) => {
  const lower = tar(
    dir("d"),
    file("d/a", "1"),
    dir("d/s"),
    file("d/s/b", "2"),
    dir("d/t"),
    file("d/t/c", "3"),
  );
  for (const order of [0, 1]) {
    const own = [dir("d"), dir("d/s"), file("d/s/new", "n")];
    const marker = file("d/.wh..wh..opq");
    const tree = await flattenLayers(t, [lower, tar(...(order === 0 ? [marker, ...own] : [...own, marker]))]);
    assert.deepEqual(await namesOf(tree), ["d", "d/s", "d/s/new"]);
  }
});

test("AUFS bookkeeping leaves no trace", async (t) => {
  const tree = await flattenLayers(t, [tar(dir(".wh..wh.plnk"), file(".wh..wh.aufs"), file("a", "1"))]);
  assert.deepEqual(await namesOf(tree), ["a"]);
});

test("files, directories and symlinks replace each other", async (t) => {
  const tree = await flattenLayers(t, [
    tar(dir("a"), file("a/x", "1"), file("b", "2"), symlink("c", "elsewhere"), dir("elsewhere"), dir("e")),
    tar(file("a", "file"), dir("b"), file("b/y", "3"), dir("c", { mode: 0o711 }), symlink("e", "b")),
  ]);
  const names = list(await written(tree));
  assert.deepEqual([...names.keys()].sort(), ["", "a", "b", "b/y", "c", "e", "elsewhere"]);
  assert.equal(names.get("a")?.data, "file");
  assert.equal(names.get("c")?.line, "5 711 0:0 0");
  assert.match(names.get("e")?.line ?? "", /-> b$/);
});

test("an upper layer's directory entry replaces all metadata and keeps the children", async (t) => {
  const tree = await flattenLayers(t, [
    tar(dir("d", { uid: 1, gid: 2, mtime: 3, pax: { "SCHILY.xattr.user.old": "1" } }), file("d/a", "1")),
    tar(dir("./", { mode: 0o751, uid: 7, mtime: 9 }), dir("d", { mode: 0o2770, uid: 4, gid: 5, mtime: 6 })),
  ]);
  const names = list(await written(tree));
  assert.equal(names.get("d")?.line, "5 2770 4:5 6");
  assert.equal(names.get("")?.line, "5 751 7:0 9", "the root's own entry counts too");
  assert.equal(names.get("d/a")?.data, "1");
});

test("a hard link keeps the old content when its first name is replaced or removed above", async (t) => {
  const tree = await flattenLayers(t, [
    tar(dir("bin"), file("bin/a", "old", { mode: 0o755 }), file("bin/b", "other")),
    tar(
      link("keep", "bin/a", { mode: 0o755 }),
      link("also", "./keep", { mode: 0o755 }),
      link("rest", "bin/b"),
    ),
    tar(file("bin/a", "new"), file("bin/.wh.b")),
  ]);
  const names = list(await written(tree));
  assert.equal(names.get("bin/a")?.data, "new");
  assert.equal(names.get("also")?.data, "old");
  assert.match(names.get("keep")?.line ?? "", /^1 755 .* -> also$/);
  assert.equal(names.get("rest")?.data, "other");
  assert.equal(names.has("bin/b"), false);
});

test("parents that are symlinks are followed inside the root, also for whiteouts and link targets", async (t) => {
  const tree = await flattenLayers(t, [
    tar(
      dir("usr"),
      dir("usr/lib"),
      file("usr/lib/gone", "1"),
      symlink("lib", "usr/lib"),
      symlink("up", "../../../usr/lib/../lib"),
      symlink("abs", "/usr/lib"),
    ),
    tar(file("lib/a", "a"), file("up/b", "b"), file("abs/c", "c"), file("lib/.wh.gone"), link("d", "abs/a")),
    tar(symlink("hang", "not/yet"), file("hang/e", "e")),
  ]);
  assert.deepEqual(await namesOf(tree), [
    ...["abs", "d", "hang", "lib", "not", "not/yet", "not/yet/e", "up"],
    ...["usr", "usr/lib", "usr/lib/a", "usr/lib/b", "usr/lib/c"],
  ]);
  assert.equal(tree.lookup("/lib/../lib/a")?.size, 1);
  assert.equal((await tree.readFile("up/b", 10))?.toString(), "b");
  assert.equal(tree.lookup("/../../usr/lib")?.type, "directory");
  assert.equal(tree.lookup("/lib/a/b"), undefined);
});

test("missing parents are made 0755 and root's", async (t) => {
  const names = list(await written(await flattenLayers(t, [tar(file("x/y/z", "1", { uid: 9 }))])));
  assert.equal(names.get("x")?.line, "5 755 0:0 0");
  assert.equal(names.get("x/y")?.line, "5 755 0:0 0");
});

test("devices, fifos, capabilities, large ids and special modes arrive as they are", async (t) => {
  const tree = await flattenLayers(t, [
    tar(
      { name: "null", type: "3", major: 1, minor: 3, mode: 0o666 },
      { name: "loop", type: "4", major: 7, minor: 1_000_000, mode: 0o660, gid: 6 },
      { name: "fifo", type: "6", mode: 0o600 },
      file("ping", "elf", {
        mode: 0o4755,
        pax: [["SCHILY.xattr.security.capability", CAPABILITY.toString("latin1")]],
      }),
      file("far", "1", { pax: { uid: "4294967294", gid: "3000000", mtime: "1700000000.75" } }),
      file("early", "1", { pax: { mtime: "-1.5" } }),
    ),
  ]);
  const names = list(await written(tree));
  assert.equal(names.get("null")?.line, "3 666 0:0 0 1:3");
  assert.equal(names.get("loop")?.line, "4 660 0:6 0 7:1000000");
  assert.equal(names.get("fifo")?.line, "6 600 0:0 0");
  assert.equal(names.get("ping")?.line, `0 4755 0:0 0 security.capability=${CAPABILITY.toString("hex")}`);
  assert.equal(names.get("far")?.line, "0 644 4294967294:3000000 1700000000");
  assert.equal(tree.lookup("early")?.mtime, -2);
  assert.equal(names.get("early")?.line, "0 644 0:0 0", "squashfs knows no time before 1970");
});

test("names keep their bytes, whatever they are", async (t) => {
  const bytes = Buffer.from([0x66, 0xff, 0x0a, 0x5c, 0x20]).toString("latin1");
  const long = `${"d".repeat(200)}/${"é".repeat(100)}`;
  const raw = Buffer.from(long).toString("latin1");
  const tree = await flattenLayers(t, [
    tar(
      file(bytes, "1"),
      file("short", "2", { pax: { path: long } }),
      symlink("s", "", { pax: { linkpath: long } }),
    ),
  ]);
  const names = list(await written(tree));
  assert.equal(names.get(bytes)?.data, "1");
  assert.equal(names.get(raw)?.data, "2");
  assert.match(names.get("s")?.line ?? "", / -> d{200}/);
  assert.equal(tree.lookup(long)?.size, 1);
});

test("xattrs squashfs cannot hold are left out and told; those that steer overlayfs are refused", async (t) => {
  const tree = await flattenLayers(t, [
    tar(file("a", "1", { pax: { "SCHILY.xattr.system.posix_acl_access": "x" } })),
  ]);
  assert.equal(list(await written(tree)).get("a")?.line, "0 644 0:0 0");
  assert.deepEqual(tree.notes, [
    "extended attributes system.posix_acl_access are left out: squashfs does not store them",
  ]);
  const steer = tar(dir("a", { pax: { "SCHILY.xattr.trusted.overlay.redirect": "/etc" } }));
  await assert.rejects(flattenLayers(t, [steer]), /"a" has "trusted.overlay.redirect"/);
});

test("the same layers packed in any way give the same bytes", async (t) => {
  const layers = [tar(dir("a"), file("a/b", "x".repeat(70_000))), tar(file("a/c", "1"), link("d", "a/b"))];
  const plain = await written(await flattenLayers(t, layers));
  for (const packing of ["gzip", "zstd"] as const) {
    assert.ok(plain.equals(await written(await flattenLayers(t, layers, { packing }))), packing);
  }
});
