import { deepEqual, throws } from "node:assert/strict";
import { test } from "node:test";
import { resolveUser } from "../src/account.ts";

const PASSWD = `root:x:0:0:root:/root:/bin/sh
# a comment
app:x:1000:1000::/home/app:/bin/sh
broken:x:one:two
1234:x:77:78::/numeric:/bin/sh
homeless:x:5:5
`;
const GROUP = `root:x:0:
staff:x:50:app,root
wheel:x:10:other,app
app:x:1000:app
dup:x:50:app
`;

// What `docker run -u SPEC` gives with these files.
const CASES: readonly [string, { uid: number; gid: number; groups: number[]; home: string }][] = [
  ["", { uid: 0, gid: 0, groups: [50], home: "/root" }],
  ["root", { uid: 0, gid: 0, groups: [50], home: "/root" }],
  ["app", { uid: 1000, gid: 1000, groups: [10, 50], home: "/home/app" }],
  ["1000", { uid: 1000, gid: 1000, groups: [10, 50], home: "/home/app" }],
  ["app:staff", { uid: 1000, gid: 50, groups: [], home: "/home/app" }],
  ["app:7", { uid: 1000, gid: 7, groups: [], home: "/home/app" }],
  ["4000", { uid: 4000, gid: 0, groups: [], home: "/" }],
  ["4000:4001", { uid: 4000, gid: 4001, groups: [], home: "/" }],
  ["1234", { uid: 77, gid: 78, groups: [], home: "/numeric" }],
  ["homeless", { uid: 5, gid: 5, groups: [], home: "/" }],
];

for (const [spec, account] of CASES) {
  test(`resolves ${JSON.stringify(spec)} as Docker does`, () =>
    deepEqual(resolveUser(spec, PASSWD, GROUP), account));
}

for (const spec of ["nobody", "app:nogroup", "broken", "-1", "4294967295", "01", "1e3"]) {
  test(`refuses the user ${spec}`, () =>
    throws(() => resolveUser(spec, PASSWD, GROUP), { code: "USER_UNKNOWN" }));
}

test("an image without user files runs as root", () => {
  deepEqual(resolveUser("", "", ""), { uid: 0, gid: 0, groups: [], home: "/" });
});
