import { deepEqual, equal, throws } from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { cpioHeader, writeCpio } from "../src/initrd/cpio.ts";
import { makeInitrd } from "../src/initrd/initrd.ts";
import { readModule } from "../src/initrd/modules.ts";
import { elfModule, fakeAssets } from "./support/assets.ts";
import { scratch } from "./support/scratch.ts";

test("cpio lists and unpacks what was written", (t) => {
  if (spawnSync("cpio", ["--version"]).error !== undefined) return t.skip("cpio is not installed");
  const archive = writeCpio([
    { path: "modules/b", mode: 0o644, data: Buffer.from("12345") },
    { path: "init", mode: 0o755, data: Buffer.from("x") },
    { path: "modules", mode: 0o755 },
  ]);
  const list = spawnSync("cpio", ["--list", "--verbose", "--numeric-uid-gid", "--quiet"], {
    input: archive,
    encoding: "utf8",
    env: { ...process.env, TZ: "UTC", LC_ALL: "C" },
  });
  equal(list.status, 0, list.stderr);
  deepEqual(
    list.stdout
      .trim()
      .split("\n")
      .map((l) => l.replace(/ +/g, " ")),
    [
      "-rwxr-xr-x 1 0 0 1 Jan 1 1970 init",
      "drwxr-xr-x 2 0 0 0 Jan 1 1970 modules",
      "-rw-r--r-- 1 0 0 5 Jan 1 1970 modules/b",
    ],
  );
  const content = spawnSync("cpio", ["--extract", "--to-stdout", "--quiet", "modules/b"], { input: archive });
  equal(content.stdout.toString(), "12345");
});

test("the order in which entries are given does not show", () => {
  const entries = [
    { path: "b", mode: 0o644, data: Buffer.from("1") },
    { path: "a", mode: 0o644, data: Buffer.from("2") },
  ];
  deepEqual(writeCpio(entries), writeCpio(entries.toReversed()));
});

test("a file past what a cpio header can say is refused", () => {
  throws(() => cpioHeader("x", 1, 0o644, 1, 2 ** 32), { code: "SHAPE_UNSUPPORTED" });
});

test("each module stands behind what it depends on, also where that is only asked for softly", (t) => {
  const assets = fakeAssets(scratch(t));
  const text = Buffer.from(makeInitrd(Buffer.from("agent"), join(assets, "modules"))).toString("latin1");
  const order = /(?:[a-z0-9_-]+\.ko\n){5,}/.exec(text)?.[0].trim().split("\n") ?? [];
  const before = (a: string, b: string): void =>
    equal(
      order.includes(a) && order.indexOf(a) < order.indexOf(b),
      true,
      `${a} before ${b} in ${order.join()}`,
    );
  before("virtio_ring.ko", "virtio.ko");
  before("virtio.ko", "virtio_pci.ko");
  before("ecb.ko", "xts.ko");
  before("dm-mod.ko", "dm-verity.ko");
  equal(new Set(order).size, order.length);
});

test("the initrd is the same bytes wherever and whenever it is made", (t) => {
  const [a, b] = [join(scratch(t), "a"), join(scratch(t), "b")];
  for (const directory of [a, b]) {
    mkdirSync(directory);
    fakeAssets(directory);
  }
  deepEqual(
    makeInitrd(Buffer.from("x"), join(a, "modules")),
    makeInitrd(Buffer.from("x"), join(b, "modules")),
  );
});

test("a kernel without a needed module is refused by its name, one with it built in is not", (t) => {
  const assets = fakeAssets(scratch(t));
  rmSync(join(assets, "modules/kernel/loop.ko"));
  throws(() => makeInitrd(Buffer.from("x"), join(assets, "modules")), /the guest kernel has no module loop/);
  writeFileSync(join(assets, "modules/modules.builtin"), "kernel/drivers/block/loop.ko\n");
  makeInitrd(Buffer.from("x"), join(assets, "modules"));
});

test("a damaged module is a named error at every length and with every byte changed", (t) => {
  const path = join(scratch(t), "m.ko");
  writeFileSync(path, elfModule("depends=a,b-c"));
  deepEqual(readModule(path).depends, ["a", "b_c"]);
  const good = readFileSync(path);
  for (let i = 0; i < good.length; i++) {
    const bad = Buffer.from(good);
    bad[i] = 0xff - (bad[i] ?? 0);
    for (const bytes of [good.subarray(0, i), bad]) {
      writeFileSync(path, bytes);
      try {
        readModule(path);
      } catch (error) {
        equal(/^(SealError|BytesError)$/.test((error as Error).name), true, String(error));
      }
    }
  }
});
