import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { createWriteStream, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { flatten, openSource } from "../src/index.ts";
import { dir, file, link, scratch, symlink, tar, writeOci, written } from "./make.ts";

const CAPABILITY = Buffer.from("0100000200040000000000000000000000000000", "hex").toString("latin1");
const EQUALS = "a=b\0c\nd=e";

/** Skips, with the reason, where a tool or root is missing. */
function missing(t: TestContext, tools: string[], root = false): boolean {
  const absent = tools.filter((tool) => spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0);
  if (absent.length > 0) t.skip(`needs ${absent.join(", ")}`);
  else if (root && process.getuid?.() !== 0) t.skip("needs root, to give files away and make devices");
  else return false;
  return true;
}

function run(command: string, ...args: string[]): string {
  const done = spawnSync(command, args, { encoding: "utf8", maxBuffer: 64 * 2 ** 20 });
  assert.equal(done.status, 0, `${command} ${args.join(" ")}: ${done.stderr}${done.error ?? ""}`);
  return done.stdout;
}

const walk = (path: string): string[] =>
  run("python3", join(import.meta.dirname, "walk.py"), path)
    .trim()
    .split("\n");

/** Seals a source into squashfs and unpacks that again with another project's tool. */
async function throughSquashfs(spec: string, at: string): Promise<string> {
  const squashfs = join(at, "root.squashfs");
  const packer = spawn("tar2sqfs", ["-s", "-q", "-f", "-c", "gzip", squashfs], {
    stdio: ["pipe", "ignore", "pipe"],
  });
  let said = "";
  packer.stderr.on("data", (chunk: Buffer) => {
    said += chunk.toString();
  });
  const exit = once(packer, "close");
  await (await flatten(await openSource(spec))).writeTar(packer.stdin);
  const [code] = (await exit) as [number];
  assert.equal(code, 0, said);
  assert.equal(said, "");
  run("unsquashfs", "-q", "-n", "-d", join(at, "unsquashed"), squashfs);
  return join(at, "unsquashed");
}

const time = { mtime: 1_600_000_000 };
const LONG = `${"long-".repeat(20)}/${"name-".repeat(40)}`;

/** One image with all there is; a hard link's header says what its target's does, as tar writes it. */
const LAYERS = [
  tar(
    dir("./", { ...time, mode: 0o751 }),
    dir("usr", time),
    dir("usr/lib", time),
    file("usr/lib/a", "lower a", { ...time, mode: 0o755 }),
    file("usr/lib/gone", "x", time),
    symlink("lib", "usr/lib", time),
    dir("d", { ...time, uid: 1, gid: 2, pax: { "SCHILY.xattr.user.old": "1" } }),
    file("d/low", "low", time),
    dir("d/s", time),
    file("d/s/low", "low", time),
    dir("o", time),
    file("o/low", "low", time),
    dir("o/s", time),
    file("o/s/low", "low", time),
    dir("dev", time),
    { name: "dev/null", type: "3", major: 1, minor: 3, mode: 0o666, ...time },
    { name: "dev/loop", type: "4", major: 7, minor: 260, mode: 0o660, gid: 6, ...time },
    { name: "fifo", type: "6", mode: 0o600, ...time },
    file("was-file", "1", time),
    dir("was-dir", time),
    file("was-dir/x", "1", time),
    symlink("was-link", "d", time),
  ),
  tar(
    dir("usr", time),
    dir("usr/lib", time),
    link("keep", "usr/lib/a", { ...time, mode: 0o755 }),
    file("lib/b", "through a symlink", time),
    file("lib/.wh.gone"),
    dir("d", { ...time, uid: 3, gid: 4, mode: 0o2770, pax: { "SCHILY.xattr.user.new": "2" } }),
    file("d/.wh.s"),
    dir("o", time),
    file("o/.wh..wh..opq"),
    dir("o/s", time),
    file("o/s/new", "new", time),
    dir("was-file", time),
    file("was-dir", "now a file", time),
    dir("was-link", { ...time, mode: 0o711 }),
    file("cap", "elf", { ...time, mode: 0o755, pax: [["SCHILY.xattr.security.capability", CAPABILITY]] }),
    file("odd", "odd", { ...time, pax: [["SCHILY.xattr.user.equals", EQUALS]] }),
    file("setuid", "s", { ...time, mode: 0o6755, uid: 12, gid: 34 }),
    file("far", "far", { ...time, pax: { uid: "3000000000", gid: "2999999999" } }),
    dir(LONG.split("/")[0] ?? "", time),
    file("short", "long name", { ...time, pax: { path: LONG } }),
    symlink("sl", "", { ...time, pax: { linkpath: `/${LONG}` } }),
    link("hard-sl", "sl", { ...time, mode: 0o777 }),
  ),
  tar(
    file("usr/lib/a", "upper a", time),
    link("keep2", "keep", { ...time, mode: 0o755 }),
    dir("usr/lib", time),
  ),
];

test("the sealed tree is what umoci unpacks, entry for entry", async (t) => {
  if (missing(t, ["umoci", "tar2sqfs", "unsquashfs", "python3"], true)) return;
  const at = scratch(t);
  for (const packing of ["none", "gzip"] as const) {
    const work = join(at, packing);
    mkdirSync(work);
    writeOci(join(work, "image"), LAYERS, { packing });
    run("umoci", "--log=error", "unpack", "--image", `${join(work, "image")}:latest`, join(work, "bundle"));
    const ours = await throughSquashfs(`oci:${join(work, "image")}`, work);
    assert.deepEqual(walk(ours), walk(join(work, "bundle/rootfs")));
  }
});

test("layers written by GNU tar in each of its formats come out as they went in", async (t) => {
  if (missing(t, ["tar", "python3", "tar2sqfs", "unsquashfs"], true)) return;
  const at = scratch(t);
  const root = join(at, "root");
  const script = `
import os, sys
r = sys.argv[1]
os.makedirs(r + "/" + "deep/" * 40)
with open(r + "/sparse", "wb") as f:
    for i in range(40):
        f.seek(i * 200000 + 70000); f.write(b"piece %d" % i)
    f.truncate(9000001)
with open(r + "/" + "n" * 200, "wb") as f: f.write(os.urandom(70001))
os.symlink("t" * 300, r + "/symlink")
os.link(r + "/" + "n" * 200, r + "/hard")
os.link(r + "/symlink", r + "/hard-symlink")
os.mknod(r + "/null", 0o20666, os.makedev(1, 3))
os.mkfifo(r + "/fifo")
open(os.fsencode(r) + b"/\\xff\\xfe \\n", "w").close()
os.chown(r + "/sparse", 3000000, 1000)
`;
  run("python3", "-c", script, root);
  run("find", root, "-depth", "-exec", "touch", "-h", "-d", "@1500000000", "{}", ";");
  const want = walk(root);
  const forms = [
    ["--format=gnu", "--sparse"],
    ["--format=posix"],
    ["--format=posix", "--sparse", "--sparse-version=0.0"],
    ["--format=posix", "--sparse", "--sparse-version=0.1"],
    ["--format=posix", "--sparse", "--sparse-version=1.0"],
  ];
  for (const [i, form] of forms.entries()) {
    const work = join(at, String(i));
    mkdirSync(work);
    run("tar", "-C", root, "--sort=name", ...form, "-cf", join(work, "layer.tar"), ".");
    writeOci(join(work, "image"), [readFileSync(join(work, "layer.tar"))], { packing: "gzip" });
    assert.deepEqual(walk(await throughSquashfs(`oci:${join(work, "image")}`, work)), want, form.join(" "));
  }
});

test("GNU tar and Python read the written archive alike", async (t) => {
  if (missing(t, ["tar", "python3"], true)) return;
  const at = scratch(t);
  writeOci(join(at, "image"), LAYERS);
  const archive = join(at, "flat.tar");
  await (await flatten(await openSource(`oci:${join(at, "image")}`))).writeTar(createWriteStream(archive));
  const gnu = join(at, "gnu");
  mkdirSync(gnu);
  run(
    "tar",
    "-C",
    gnu,
    "--numeric-owner",
    "--xattrs",
    "--xattrs-include=*",
    "--delay-directory-restore",
    "-xpf",
    archive,
  );
  const unpacked = walk(gnu);
  assert.deepEqual(unpacked, walk(await throughSquashfs(`oci:${join(at, "image")}`, at)));
  const script = `
import json, sys, tarfile
with tarfile.open(sys.argv[1]) as t: print(json.dumps(sorted(m.name.encode(errors="surrogateescape").decode("latin1") for m in t)))
`;
  assert.deepEqual(
    JSON.parse(run("python3", "-c", script, archive)),
    unpacked.map((line) => (JSON.parse(line) as { name: string }).name).sort(),
  );
});

test("skopeo's copies of an image, in any form it writes, flatten to the same bytes", async (t) => {
  if (missing(t, ["skopeo"])) return;
  const at = scratch(t);
  writeOci(join(at, "image"), LAYERS, { packing: "gzip", tag: "1", config: { Cmd: ["/bin/true"] } });
  const from = `oci:${join(at, "image")}:1`;
  const bytes = await written(await flatten(await openSource(from)));
  const copies: [spec: string, to: string, more: string[]][] = [
    [`docker-archive:${join(at, "d.tar")}:demo:1`, `docker-archive:${join(at, "d.tar")}:demo:1`, []],
    [`oci-archive:${join(at, "o.tar")}:1`, `oci-archive:${join(at, "o.tar")}:1`, []],
    [
      `oci:${join(at, "zstd")}`,
      `oci:${join(at, "zstd")}:1`,
      ["--dest-compress", "--dest-compress-format=zstd"],
    ],
  ];
  writeFileSync(join(at, "policy.json"), '{"default":[{"type":"insecureAcceptAnything"}]}');
  for (const [spec, to, more] of copies) {
    run("skopeo", "--policy", join(at, "policy.json"), "copy", "--quiet", ...more, from, to);
    const source = await openSource(spec);
    assert.deepEqual(source.config.cmd, ["/bin/true"]);
    assert.ok(bytes.equals(await written(await flatten(source))), spec);
  }
});
