import assert from "node:assert/strict";
import { test } from "node:test";
import { file, flattenLayers, type Header, list, pad, tar, written } from "./make.ts";

/** "ab" at 1024, "cd" at 4096, 5000 bytes in all: the same file in each of the four forms. */
const SIZE = 5000;
const STORED = "abcd";
const CONTENT = Buffer.alloc(SIZE);
CONTENT.write("ab", 1024);
CONTENT.write("cd", 4096);

const oct = (value: number): string => `${value.toString(8).padStart(11, "0")}\0`;
const MAP_1_0 = pad(Buffer.from("2\n1024\n2\n4096\n2\n"));

const FORMS: [name: string, header: Header][] = [
  [
    "old GNU",
    file("a", STORED, {
      type: "S",
      magic: "ustar  \0",
      patch: (b) =>
        b.write(oct(1024) + oct(2) + oct(4096) + oct(2), 386, "latin1") && b.write(oct(SIZE), 483, "latin1"),
    }),
  ],
  [
    "PAX 0.0",
    file("a", STORED, {
      pax: [
        ["GNU.sparse.size", String(SIZE)],
        ["GNU.sparse.numblocks", "2"],
        ["GNU.sparse.offset", "1024"],
        ["GNU.sparse.numbytes", "2"],
        ["GNU.sparse.offset", "4096"],
        ["GNU.sparse.numbytes", "2"],
      ],
    }),
  ],
  [
    "PAX 0.1",
    file("GNUSparseFile.0/a", STORED, {
      pax: {
        "GNU.sparse.size": String(SIZE),
        "GNU.sparse.numblocks": "2",
        "GNU.sparse.map": "1024,2,4096,2",
        "GNU.sparse.name": "a",
      },
    }),
  ],
  [
    "PAX 1.0",
    file("GNUSparseFile.0/a", "", {
      data: Buffer.concat([MAP_1_0, Buffer.from(STORED)]),
      pax: {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": String(SIZE),
        "GNU.sparse.name": "a",
      },
    }),
  ],
];

for (const [name, header] of FORMS) {
  test(`writes a sparse file of form ${name} out in full`, async (t) => {
    const tree = await flattenLayers(t, [tar(header, file("next", "n"))]);
    const names = list(await written(tree));
    assert.equal(names.get("a")?.data, CONTENT.toString("latin1"));
    assert.equal(names.get("next")?.data, "n");
    assert.ok((await tree.readFile("/a", SIZE))?.equals(CONTENT));
  });

  test(`refuses a sparse file of form ${name} whose map is longer than what is stored`, async (t) => {
    const data = Buffer.from(header.data ?? "");
    const layer = tar({ ...header, data: data.subarray(0, data.length - 1) });
    await assert.rejects(flattenLayers(t, [layer]), /sparse map covers 4 bytes, 3 are stored/);
  });
}

const BAD_MAPS: [map: string, text: RegExp][] = [
  ["4096,2,1024,2", /overlaps or leaves its file/],
  ["1024,2,1025,2", /overlaps or leaves its file/],
  ["1024,2,4999,2", /overlaps or leaves its file/],
  ["1024,2,4096", /odd count/],
  ["1024,2,-1,2", /is no size or id/],
];
for (const [map, text] of BAD_MAPS) {
  test(`refuses the sparse map ${map}`, async (t) => {
    const pax = { "GNU.sparse.size": String(SIZE), "GNU.sparse.map": map };
    await assert.rejects(flattenLayers(t, [tar(file("a", STORED, { pax }))]), text);
  });
}

test("refuses a map in front of the data that does not end", async (t) => {
  const pax = { "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10" };
  for (const data of ["9".repeat(512), pad(Buffer.from("99\n1\n1\n"))]) {
    await assert.rejects(
      flattenLayers(t, [tar(file("a", "", { data, pax }))]),
      /sparse map (does not end|")/,
    );
  }
});
