import { equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { identityPrefix, parseName } from "../src/index.ts";

test("names are completed as Docker does", () => {
  equal(parseName("demo"), "demo:latest");
  equal(parseName("demo:1.2"), "demo:1.2");
  equal(parseName("team/demo_x:A-b"), "team/demo_x:A-b");
  equal(parseName("Registry.local:5000/team/demo"), "Registry.local:5000/team/demo:latest");
});

for (const name of [
  "",
  "Demo",
  "demo:",
  ":x",
  "demo:a:b",
  "a//b",
  "-a",
  "a-",
  "a..b",
  "../a",
  "a b",
  "demo:.x",
  `demo:${"x".repeat(129)}`,
  "x".repeat(300),
  "demo@sha256:ab",
  "a\n",
]) {
  test(`${JSON.stringify(name.slice(0, 40))} is no name`, () =>
    throws(() => parseName(name), { code: "NAME_MALFORMED", kind: "usage" }));
}

test("an identity is recognised from four digits on", () => {
  equal(identityPrefix("abcd"), "abcd");
  equal(identityPrefix("sha256:abcd12"), "abcd12");
  equal(identityPrefix("abc"), undefined);
  equal(identityPrefix("ABCD"), undefined);
  equal(identityPrefix("a".repeat(65)), undefined);
});
