import { deepEqual, equal } from "node:assert/strict";
import { test } from "node:test";
import vectors from "../../../schema/grants.vectors.json" with { type: "json" };
import { grantsArgv, grantsEnv, grantsMount } from "../src/index.ts";

for (const c of vectors.argv) {
  test(`argv grants: ${c.name}`, () => equal(grantsArgv(c.grants, c.argv), c.granted));
}
for (const c of vectors.env) {
  test(`env grants: ${c.name}`, () => equal(grantsEnv(c.grants, c.variable), c.granted));
}
for (const c of vectors.mounts) {
  test(`mount grants: ${c.name}`, () => equal(grantsMount(c.grants, c.mount), c.granted));
}

/** The rule as a regular expression: an implementation of its own. */
function oracle(grants: string[][], argv: string[]): boolean {
  const quote = (s: string): string =>
    s
      .split("*")
      .map((p) => p.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&"))
      .join("[^\\0]*");
  return grants.some((grant) => {
    const open = grant.at(-1) === "**";
    const words = open ? grant.slice(0, -1) : grant;
    const body = words.map((w) => `${quote(w)}\\0`).join("");
    return new RegExp(`^${body}${open ? "(?:[^\\0]*\\0)*" : ""}$`, "u").test(
      argv.map((a) => `${a}\0`).join(""),
    );
  });
}

test("agrees with regular expressions on random grants", () => {
  const seed = Number(process.env["SEED"] ?? Date.now() % 1_000_000);
  let state = seed;
  const next = (n: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) % n;
  };
  const word = (letters: string): string =>
    Array.from({ length: next(5) }, () => letters[next(letters.length)]).join("");
  const counts = { true: 0, false: 0 };
  for (let i = 0; i < 20_000; i++) {
    const grants = Array.from({ length: next(3) }, () => {
      const grant = Array.from({ length: next(3) }, () => word("ab*"));
      if (next(3) === 0) grant.push("**");
      return grant;
    });
    const argv = Array.from({ length: next(4) }, () => word("ab"));
    const granted = grantsArgv(grants, argv);
    counts[`${granted}`]++;
    deepEqual({ seed, grants, argv, granted }, { seed, grants, argv, granted: oracle(grants, argv) });
  }
  equal(counts.true > 1000 && counts.false > 1000, true);
});
