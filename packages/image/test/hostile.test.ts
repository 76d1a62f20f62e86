import assert from "node:assert/strict";
import { test } from "node:test";
import { ImageError, type ImageErrorCode } from "../src/index.ts";
import {
  dir,
  entry,
  file,
  flattenLayers,
  type Header,
  header,
  link,
  namesOf,
  pad,
  symlink,
  tar,
} from "./make.ts";

/** What refuses which layer: a code and a part of the message. */
const REFUSED: [claim: string, entries: (Header | Buffer)[], code: ImageErrorCode, text: string][] = [
  ["a name that climbs", [file("../etc/passwd", "x")], "ENTRY_REFUSED", '"../etc/passwd" has a .. component'],
  ["a name that climbs inside", [file("a/../b", "x")], "ENTRY_REFUSED", '"a/../b" has a .. component'],
  [
    "a PAX name that climbs",
    [file("a", "x", { pax: { path: "a/.." } })],
    "ENTRY_REFUSED",
    '"a/.." has a .. component',
  ],
  [
    "an absolute hard link",
    [file("a", "x"), link("b", "/a")],
    "ENTRY_REFUSED",
    'to "/a": its target is absolute',
  ],
  [
    "a hard link that climbs",
    [file("a", "x"), link("b", "../a")],
    "ENTRY_REFUSED",
    '"../a" has a .. component',
  ],
  ["a hard link to nothing", [link("b", "a")], "ENTRY_REFUSED", "its target is not there"],
  ["a hard link to itself", [link("b", "b")], "ENTRY_REFUSED", "its target is not there"],
  ["a hard link to a directory", [dir("a"), link("b", "a")], "ENTRY_REFUSED", "its target is a directory"],
  [
    "a hard link with data",
    [file("a"), link("b", "a", { data: "x" })],
    "TAR_MALFORMED",
    "link with 1 bytes of data",
  ],
  ["a file twice", [file("a", "1"), file("a", "2")], "ENTRY_REFUSED", '"a" is there twice'],
  ["a file twice, spelt apart", [file("a", "1"), file("./a", "2")], "ENTRY_REFUSED", '"./a" is there twice'],
  [
    "a file twice through a symlink",
    [dir("d"), symlink("s", "d"), file("d/a"), file("s/a")],
    "ENTRY_REFUSED",
    "twice",
  ],
  [
    "a file over its layer's directory",
    [file("a/b", "1"), file("a", "2")],
    "ENTRY_REFUSED",
    '"a" is there twice',
  ],
  ["a directory over its layer's file", [file("a", "1"), dir("a")], "ENTRY_REFUSED", '"a" is there twice'],
  [
    "a file below a file",
    [file("a", "1"), file("a/b", "2")],
    "ENTRY_REFUSED",
    'parent of "a/b": not a directory',
  ],
  [
    "a symlink loop",
    [symlink("a", "b"), symlink("b", "a"), file("a/x")],
    "ENTRY_REFUSED",
    "too many symlinks",
  ],
  ["a root that is a file", [file("./", "x")], "ENTRY_REFUSED", "makes the root a file"],
  ["no name", [file("", "x")], "ENTRY_REFUSED", "entry without a name"],
  ["a whiteout of ..", [file("a/.wh..")], "ENTRY_REFUSED", "names no file"],
  ["a whiteout of nothing", [file(".wh.")], "ENTRY_REFUSED", "names no file"],
  ["a NUL in a PAX name", [file("a", "", { pax: { path: "a\0b" } })], "TAR_MALFORMED", "PAX path has a NUL"],
  ["a NUL in a PAX link", [symlink("a", "", { pax: { linkpath: "a\0b" } })], "TAR_MALFORMED", "has a NUL"],
  ["a symlink to nowhere", [symlink("a", "")], "ENTRY_REFUSED", "has a target of 0 bytes"],
  [
    "a long component",
    [file("a", "", { pax: { path: "a".repeat(256) } })],
    "LIMIT_EXCEEDED",
    "component of 256 bytes",
  ],
  ["a long name", [file("a", "", { pax: { path: "a/".repeat(2048) } })], "LIMIT_EXCEEDED", "has 4096 bytes"],
  [
    "a deep name",
    [file("a", "", { pax: { path: "a/".repeat(257) } })],
    "LIMIT_EXCEEDED",
    "is deeper than 256",
  ],
  ["an unknown type", [file("a", "", { type: "Z" })], "ENTRY_REFUSED", 'entry of unknown type "Z"'],
  [
    "a user id without user",
    [file("a", "", { pax: { uid: "4294967295" } })],
    "ENTRY_REFUSED",
    "is no user and group",
  ],
  [
    "a device squashfs cannot hold",
    [file("a", "", { type: "3", major: 4096 })],
    "ENTRY_REFUSED",
    "number 4096:0",
  ],
  ["a broken checksum", [broken("a")], "TAR_MALFORMED", "header checksum is"],
  ["a negative size", [base256Size(-1n)], "TAR_MALFORMED", "size -1 is negative"],
  ["a size past 2^53", [base256Size(2n ** 60n)], "TAR_MALFORMED", "is out of range"],
  [
    "a size that is no number",
    [file("a", "", { patch: (b) => b.write("9", 130) })],
    "TAR_MALFORMED",
    "octal",
  ],
  [
    "a PAX record that is too long",
    [paxOf("99 path=a\n"), file("a")],
    "TAR_MALFORMED",
    "PAX record at byte 0",
  ],
  ["a PAX record without =", [paxOf("7 path\n"), file("a")], "TAR_MALFORMED", "PAX record at byte 0"],
  [
    "two PAX headers in a row",
    [paxOf("9 path=a\n"), paxOf("9 path=b\n"), file("c")],
    "TAR_MALFORMED",
    "two PAX",
  ],
  [
    "a huge extension",
    [header({ name: "x", type: "L", size: 2 ** 21 })],
    "LIMIT_EXCEEDED",
    "of 2097152 bytes",
  ],
  ["an extension before the end", [paxOf("9 path=a\n")], "TAR_TRUNCATED", "ends behind an extension header"],
  [
    "a long xattr",
    [file("a", "", { pax: { "SCHILY.xattr.user.a": "x".repeat(65_537) } })],
    "LIMIT_EXCEEDED",
    "65537",
  ],
];

for (const [claim, entries, code, text] of REFUSED) {
  test(`refuses ${claim}, naming it`, async (t) => {
    await assert.rejects(flattenLayers(t, [tar(...entries)]), (error: unknown) => {
      assert.ok(error instanceof ImageError, String(error));
      assert.equal(error.code, code, error.message);
      assert.ok(error.message.includes(text), error.message);
      assert.match(error.message, /^layer 1 of 1 \(sha256:/);
      return true;
    });
  });
}

test("takes what real images have: absolute names, absolute symlinks, repeated directories", async (t) => {
  const layer = tar(
    dir("/ko-app"),
    file("/ko-app/app", "x"),
    symlink("sh", "/bin/busybox"),
    dir("ko-app"),
    dir("."),
  );
  assert.deepEqual(await namesOf(await flattenLayers(t, [layer])), ["ko-app", "ko-app/app", "sh"]);
});

test("takes the same name in two layers, and a whiteout twice", async (t) => {
  const tree = await flattenLayers(t, [
    tar(file("a", "1")),
    tar(file(".wh.a"), file(".wh.a"), file("a", "2")),
  ]);
  assert.equal((await tree.readFile("a", 9))?.toString(), "2");
});

const LIMITS: [claim: string, limits: object, text: string][] = [
  ["entries", { entries: 2 }, "more than 2 entries"],
  ["bytes of the tree", { treeBytes: 4095 }, "the tree has 4096 bytes, at most 4095"],
  ["bytes of a layer", { layerBytes: 4096 }, "unpacks to more than 4096 bytes"],
  ["bytes of xattrs", { xattrBytes: 10 }, "more than 10 bytes of xattrs"],
];
for (const [claim, limits, text] of LIMITS) {
  test(`refuses more than the limit of ${claim}`, async (t) => {
    const layer = tar(
      dir("a"),
      file("a/b", "x".repeat(4096)),
      dir("c", { pax: { "SCHILY.xattr.user.name": "value" } }),
    );
    for (const packing of ["none", "gzip", "zstd"] as const) {
      await assert.rejects(flattenLayers(t, [layer], { limits, packing }), (error: unknown) => {
        assert.ok(error instanceof ImageError && error.code === "LIMIT_EXCEEDED", String(error));
        assert.ok(error.message.includes(text), error.message);
        return true;
      });
    }
    await flattenLayers(t, [layer]);
  });
}

test("refuses a layer that unpacks to far more than it is", async (t) => {
  const size = 80 * 2 ** 20;
  const layer = Buffer.concat([header({ name: "zeros", size }), Buffer.alloc(size + 1024)]);
  for (const packing of ["gzip", "zstd"] as const) {
    await assert.rejects(flattenLayers(t, [layer], { packing }), /unpacks to more than 200 times its size/);
  }
});

test("refuses a sparse file that claims more than the tree may have", async (t) => {
  const bomb = file("a", "", {
    type: "S",
    magic: "ustar  \0",
    patch: (b) => {
      b.write("00000000000\x0000000000000\0", 386, "latin1");
      b[483] = 0x80;
      b.writeUInt32BE(0x1000000, 483 + 6);
    },
  });
  await assert.rejects(flattenLayers(t, [tar(bomb)]), /the tree has [0-9]+ bytes, at most/);
});

test("refuses truncation wherever it falls, and data behind the end", async (t) => {
  const whole = tar(dir("d"), file("d/a", "x".repeat(700), { pax: { mtime: "5" } }), file("b", "y"));
  await flattenLayers(t, [whole]);
  await flattenLayers(t, [Buffer.concat([whole, Buffer.alloc(9216)])]);
  for (const packing of ["none", "gzip"] as const) {
    for (let end = 0; end < whole.length - 1024; end += 256) {
      await assert.rejects(flattenLayers(t, [whole.subarray(0, end)], { packing }), (error: unknown) => {
        assert.ok(error instanceof ImageError && error.code === "TAR_TRUNCATED", `${end}: ${error}`);
        return true;
      });
    }
  }
  await assert.rejects(
    flattenLayers(t, [Buffer.concat([whole, Buffer.from("x")])]),
    /data behind the end marker/,
  );
  await assert.rejects(
    flattenLayers(t, [Buffer.concat([whole, tar(file("late", "x"))])]),
    /data behind the end/,
  );
});

function broken(name: string): Buffer {
  const block = header({ name });
  block[0] = 0x62;
  return block;
}

function base256Size(size: bigint): Buffer {
  return entry(
    file("a", "", {
      patch: (block) => {
        block.fill(size < 0n ? 0xff : 0, 124, 136);
        block.writeBigInt64BE(size, 128);
        block[124] = size < 0n ? 0xff : 0x80;
      },
    }),
  );
}

function paxOf(body: string): Buffer {
  return Buffer.concat([header({ name: "x", type: "x", data: body }), pad(Buffer.from(body))]);
}
