import { deepEqual, equal, match, notEqual, ok, rejects, throws } from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { digestOf, hexOf, SecretBytes } from "@shelter/base";
import { type BuildOptions, build, ImageStore, type SealedImage, verifyImage } from "../src/index.ts";
import { fakeAssets } from "./support/assets.ts";
import { scratch } from "./support/scratch.ts";
import { missing, run } from "./support/tools.ts";

const skip = missing("tar2sqfs", "veritysetup", "unsquashfs", "cpio");
const WORDS = "only this file holds these words\n";
const noUser = (): undefined => undefined;

function source(directory: string): string {
  mkdirSync(join(directory, "etc"), { recursive: true });
  mkdirSync(join(directory, "bin"));
  writeFileSync(
    join(directory, "etc/passwd"),
    "root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n",
  );
  writeFileSync(join(directory, "words"), WORDS.repeat(300));
  writeFileSync(
    join(directory, "noise"),
    createHash("sha256").update("noise").digest().toString("hex").repeat(999),
  );
  writeFileSync(join(directory, "bin/sh"), "#!\n");
  chmodSync(join(directory, "bin/sh"), 0o755);
  symlinkSync("../words", join(directory, "etc/link"));
  return directory;
}

function setUp(t: TestContext): { state: string; options: BuildOptions; directory: string } {
  const directory = scratch(t);
  const state = join(directory, "state");
  mkdirSync(state);
  mkdirSync(join(directory, "assets"));
  const options = {
    source: source(join(directory, "root")),
    state,
    assets: fakeAssets(join(directory, "assets")),
  };
  return { state, options, directory };
}

const contents = (image: SealedImage): Record<string, string> =>
  Object.fromEntries(
    readdirSync(image.directory).map((f) => [f, digestOf(readFileSync(join(image.directory, f)))]),
  );

/** The root hash of a verity tree by its definition (kernel Documentation/admin-guide/device-mapper/verity.rst). */
function rootHash(data: Uint8Array, salt: Uint8Array): string {
  const level = (bytes: Uint8Array): Buffer => {
    const digests: Buffer[] = [];
    for (let at = 0; at < bytes.length; at += 4096) {
      digests.push(
        createHash("sha256")
          .update(salt)
          .update(bytes.subarray(at, at + 4096))
          .digest(),
      );
    }
    const joined = Buffer.concat(digests);
    return digests.length === 1 ? joined : Buffer.concat([joined], Math.ceil(joined.length / 4096) * 4096);
  };
  let bytes: Uint8Array = data;
  do bytes = level(bytes);
  while (bytes.length > 32);
  return Buffer.from(bytes).toString("hex");
}

test("the same source is the same image: on another day, in another folder, by another hand", {
  skip,
}, async (t) => {
  const { options, directory } = setUp(t);
  const { image } = await build({ ...options, name: "demo" });
  const copy = join(directory, "elsewhere/deep");
  cpSync(options.source, copy, { recursive: true, verbatimSymlinks: true });
  for (const file of ["words", "noise", "etc/passwd", "bin/sh", "etc", "bin", "."])
    utimesSync(join(copy, file), 5, 5);
  const state = join(directory, "other state");
  mkdirSync(state);
  const again = (await build({ ...options, source: copy, state, name: "other:name" })).image;
  equal(again.identity, image.identity);
  deepEqual(contents(again), contents(image));
  writeFileSync(join(copy, "words"), WORDS.repeat(299));
  notEqual((await build({ ...options, source: copy, state })).image.identity, image.identity);
});

test("the root is what the source was, and its hash tree is veritysetup's and the definition's", {
  skip,
}, async (t) => {
  const { image } = await build(setUp(t).options);
  const file = join(image.directory, "root.squashfs");
  const tree = join(image.directory, "root.verity");
  equal(run("unsquashfs", ["-no-progress", "-cat", file, "words"]).toString(), WORDS.repeat(300));
  match(
    run("unsquashfs", ["-no-progress", "-lln", file]).toString(),
    /lrwxrwxrwx .*squashfs-root\/etc\/link -> \.\.\/words/,
  );
  const { verity, squashfs } = image.manifest.root;
  ok(verity !== undefined);
  equal(rootHash(readFileSync(file), Buffer.from(verity.salt, "hex")), verity.rootHash);
  deepEqual([squashfs.size, squashfs.digest], [statSync(file).size, digestOf(readFileSync(file))]);
  equal(verity.hashSize, statSync(tree).size);
  equal(verity.dataBlocks * 4096, squashfs.size);
  run("veritysetup", ["verify", file, tree, verity.rootHash]);
  const bytes = readFileSync(file);
  bytes[100] = 0xff - (bytes[100] ?? 0);
  writeFileSync(file, bytes);
  throws(() => run("veritysetup", ["verify", file, tree, verity.rootHash]));
  match(
    image.record.cmdline,
    new RegExp(
      `^quiet panic=-1 loglevel=1 console=null cryptomgr.notests shelter.manifest=${hexOf(digestOf(readFileSync(join(image.directory, "manifest.json"))))} shelter.root=${verity.rootHash}$`,
    ),
  );
});

test("an altered, a short and a lost file are found; building again repairs the image", {
  skip,
}, async (t) => {
  const { options } = setUp(t);
  const { image } = await build(options);
  deepEqual([...(await verifyImage(image.directory))].sort(), [
    "initrd",
    "kernel",
    "manifest.json",
    "root.squashfs",
    "root.verity",
  ]);
  const kernel = join(image.directory, "kernel");
  writeFileSync(kernel, "a kernek");
  await rejects(verifyImage(image.directory), { code: "IMAGE_DAMAGED", message: /kernel was altered/ });
  truncateSync(kernel, 3);
  await rejects(verifyImage(image.directory), {
    code: "IMAGE_DAMAGED",
    message: /expected 8 bytes, have 3 bytes/,
  });
  await build(options);
  await verifyImage(image.directory);
  writeFileSync(
    join(image.directory, "image.json"),
    readFileSync(join(image.directory, "image.json"), "utf8").replace("panic=-1", "panic=-2"),
  );
  await rejects(verifyImage(image.directory), { code: "IMAGE_DAMAGED" });
  // One damaged image must not hide the others, nor keep itself from being removed.
  const other = (await build({ ...options, name: "other", shape: "initrd" })).image;
  const store = new ImageStore(options.state);
  const damaged: string[] = [];
  const listed = store.images((identity) => damaged.push(identity));
  deepEqual([listed.map((i) => i.identity), damaged], [[other.identity], [image.identity]]);
  throws(() => store.inspect(image.identity), { code: "IMAGE_DAMAGED" });
  equal(store.remove(image.identity, { inUse: noUser }).deleted, image.identity);
});

test("an encrypted root holds no plain text, and is the same for the same key only", { skip }, async (t) => {
  const { options } = setUp(t);
  const key = new SecretBytes(randomBytes(64));
  const encryption = { uri: "kbs:///default/disk-key/app", key };
  const plain = (await build(options)).image;
  const sealed = (await build({ ...options, encryption })).image;
  equal((await build({ ...options, encryption })).image.identity, sealed.identity);
  const other = { ...encryption, key: new SecretBytes(randomBytes(64)) };
  notEqual((await build({ ...options, encryption: other })).image.identity, sealed.identity);
  deepEqual(sealed.manifest.root.encryption, {
    key: encryption.uri,
    cipher: "aes-xts-plain64",
    sectorSize: 4096,
  });
  const before = readFileSync(join(plain.directory, "root.squashfs"));
  const after = readFileSync(join(sealed.directory, "root.squashfs"));
  equal(after.length, before.length);
  notEqual(after.toString("latin1", 0, 4), "hsqs");
  for (const file of readdirSync(sealed.directory)) {
    const bytes = readFileSync(join(sealed.directory, file));
    equal(bytes.includes(Buffer.from(key.reveal()).subarray(0, 32)), false, `${file} holds the key`);
    equal(bytes.includes(Buffer.from(key.reveal()).toString("hex")), false, `${file} holds the key`);
  }
  const verity = sealed.manifest.root.verity;
  run("veritysetup", [
    "verify",
    join(sealed.directory, "root.squashfs"),
    join(sealed.directory, "root.verity"),
    verity?.rootHash ?? "",
  ]);
  await rejects(build({ ...options, encryption, shape: "initrd" }), {
    code: "KEY_MALFORMED",
    hint: "build with -T disk",
  });
  await rejects(build({ ...options, encryption: { uri: "file:///x", key } }), {
    code: "KEY_MALFORMED",
    kind: "usage",
  });
});

test("shape initrd carries the same root behind the same initrd", { skip }, async (t) => {
  const { options } = setUp(t);
  const disk = (await build(options)).image;
  const memory = (await build({ ...options, shape: "initrd" })).image;
  deepEqual(readdirSync(memory.directory).sort(), ["image.json", "initrd", "kernel", "manifest.json"]);
  const first = readFileSync(join(disk.directory, "initrd"));
  const both = readFileSync(join(memory.directory, "initrd"));
  deepEqual(both.subarray(0, first.length), first);
  const second = both.subarray(Math.ceil(first.length / 4) * 4); // the kernel wants archives at multiples of four
  deepEqual(
    run("cpio", ["--extract", "--to-stdout", "--quiet", "root.squashfs"], second),
    readFileSync(join(disk.directory, "root.squashfs")),
  );
  equal(memory.manifest.root.squashfs.digest, disk.manifest.root.squashfs.digest);
  equal(memory.record.cmdline.includes("shelter.root"), false);
});

test("an interrupted build leaves nothing, wherever it is interrupted", { skip }, async (t) => {
  const { options, state } = setUp(t);
  let steps = 0;
  await build({ ...options, state: scratch(t) }, () => void steps++);
  for (let stop = 1; stop <= steps; stop++) {
    const controller = new AbortController();
    let seen = 0;
    const end = build({ ...options, signal: controller.signal }, () => {
      if (++seen === stop) controller.abort();
    });
    await end.then(
      () => ok(seen >= stop, "a build that was told to stop went on"),
      (error) => equal(error.code, "BUILD_ABORTED", String(error)),
    );
    const left = readdirSync(join(state, "images")).filter((f) => f.startsWith("."));
    deepEqual(left, [], `stopped at step ${stop}`);
  }
});

test("two builds of one name at once both succeed, and so does a third that finds a dead builder's leavings", {
  skip,
}, async (t) => {
  const { options, state, directory } = setUp(t);
  const script = join(directory, "build.ts");
  const seal = join(import.meta.dirname, "../src/index.ts");
  writeFileSync(
    script,
    `import { build } from ${JSON.stringify(seal)};
const { image } = await build(${JSON.stringify({ ...options, name: "demo" })});
process.stdout.write(image.identity);`,
  );
  const dead = join(state, "images/.build-4194305-1.abcdef");
  mkdirSync(dead, { recursive: true });
  writeFileSync(join(dead, "root.squashfs"), "half");
  const ends = await Promise.all(
    [1, 2, 3].map(async () => {
      const child = spawn(process.execPath, ["--disable-warning=ExperimentalWarning", script], {
        stdio: ["ignore", "pipe", "inherit"],
      });
      const out: Buffer[] = [];
      child.stdout.on("data", (chunk: Buffer) => out.push(chunk));
      const [code] = (await once(child, "close")) as [number];
      equal(code, 0);
      return Buffer.concat(out).toString();
    }),
  );
  equal(new Set(ends).size, 1);
  const store = new ImageStore(state);
  deepEqual(
    store.images().map((i) => [i.identity, i.names]),
    [[ends[0], ["demo:latest"]]],
  );
  equal(existsSync(dead), false);
  deepEqual(
    readdirSync(store.directory).filter((f) => f.startsWith(".")),
    [],
  );
});

test("names move, the last one takes the image with it, and what is in use stays", { skip }, async (t) => {
  const { options, state } = setUp(t);
  const { image } = await build({ ...options, name: "demo" });
  const store = new ImageStore(state);
  store.tag("demo", "team/other:2");
  const short = hexOf(image.identity).slice(0, 12);
  deepEqual(store.inspect(short).names, ["demo:latest", "team/other:2"]);
  throws(() => store.inspect("nosuch"), { code: "IMAGE_UNKNOWN", kind: "usage" });
  throws(() => store.inspect("No Such"), { code: "NAME_MALFORMED" });
  throws(() => store.remove(short, { inUse: noUser }), {
    code: "IMAGE_IN_USE",
    message: /demo:latest, team\/other:2/,
  });
  deepEqual(store.remove("demo", { inUse: () => "brave_fox" }), {
    untagged: ["demo:latest"],
    deleted: undefined,
  });
  throws(() => store.remove("team/other:2", { inUse: () => "brave_fox" }), {
    code: "IMAGE_IN_USE",
    message: /used by brave_fox/,
  });
  equal(store.images().length, 1);
  deepEqual(store.remove("team/other:2", { inUse: noUser }), {
    untagged: ["team/other:2"],
    deleted: image.identity,
  });
  deepEqual(store.images(), []);
  equal(existsSync(image.directory), false);
});

test("a name given to another build leaves the first image without one", { skip }, async (t) => {
  const { options, state } = setUp(t);
  const first = (await build({ ...options, name: "demo" })).image;
  writeFileSync(join(options.source, "more"), "x");
  const second = (await build({ ...options, name: "demo" })).image;
  const store = new ImageStore(state);
  equal(store.inspect("demo").identity, second.identity);
  deepEqual(store.inspect(first.identity).names, []);
  deepEqual(store.remove(first.identity, { inUse: noUser }), { untagged: [], deleted: first.identity });
});

test("a full disk is an error that names the file system, and nothing half-made", {
  skip: skip || (process.getuid?.() !== 0 && "mounting a small file system needs root"),
}, async (t) => {
  const { options, state } = setUp(t);
  for (const size of ["300k", "64k"]) {
    const small = join(state, size);
    mkdirSync(small);
    run("mount", ["-t", "tmpfs", "-o", `size=${size}`, "tmpfs", small]);
    try {
      writeFileSync(join(options.source, "big"), randomBytes(2 ** 20));
      await rejects(build({ ...options, state: small, name: "demo" }), (error: Error & { code?: string }) => {
        equal(error.code, "DISK_FULL", String(error.stack));
        match(error.message, new RegExp(`no space left on the file system at ${small}`));
        return true;
      });
      deepEqual(
        readdirSync(join(small, "images")).filter((f) => f !== "lock.db"),
        [],
      );
    } finally {
      run("umount", [small]);
    }
  }
});

test("missing guest parts and a missing source say the way out, before any work", { skip }, async (t) => {
  const { options, directory } = setUp(t);
  await rejects(build({ ...options, assets: join(directory, "none") }), {
    code: "ASSETS_MISSING",
    hint: /npm start/,
  });
  await rejects(build({ ...options, source: join(directory, "none") }), /no such directory/);
  await rejects(build({ ...options, yaml: join(directory, "none.yaml") }), {
    code: "YAML_MALFORMED",
    message: /cannot read .*none\.yaml/,
  });
});
