import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { checkMessage, GuestError, isBrokerPath, parseMessage, type Side } from "../src/index.ts";

interface Vectors {
  messages: Record<Side, ({ type: string } & Record<string, never>)[]>;
  refusedMessages: Record<Side, { name: string; text: string; error: string }[]>;
}
const vectors = JSON.parse(
  readFileSync(new URL("../../../schema/agent-protocol.vectors.json", import.meta.url), "utf8"),
) as Vectors;

for (const side of ["guest", "host"] as const) {
  test(`takes every ${side} message of the shared examples`, () => {
    for (const message of vectors.messages[side]) {
      assert.deepEqual(parseMessage(side, Buffer.from(JSON.stringify(message))), message);
    }
  });
  for (const { name, text, error } of vectors.refusedMessages[side]) {
    test(`refuses the ${side} message: ${name}`, () => {
      assert.throws(
        () => parseMessage(side, Buffer.from(text)),
        (e: unknown) => e instanceof GuestError && e.code === error,
      );
    });
  }
}

test("refuses bytes that are not UTF-8", () => {
  const text = Buffer.from('{"type":"hello","protocol":1,"agent":"x"}');
  text[text.indexOf("x")] = 0xff;
  assert.throws(() => parseMessage("guest", text), {
    code: "CONTROL_MALFORMED",
    message: "a control message is not UTF-8",
  });
});

test("names the member that is wrong", () => {
  assert.throws(() => checkMessage("guest", { type: "step", step: "root", ms: -1 }), {
    message: "step.ms is not a whole number from 0 to 4294967295",
  });
});

test("keeps relayed paths below /kbs/v0/ however a server reads them", () => {
  for (const good of ["/kbs/v0/auth", "/kbs/v0/resource/default/key/a-b_c.d", "/kbs/v0/resource/a/b/c?x=1"]) {
    assert.ok(isBrokerPath(good), good);
  }
  const bad = [
    "/kbs/v0/",
    "/kbs/v0",
    "/kbs/v1/auth",
    "/kbs/v0/../admin",
    "/kbs/v0/a/%2e%2E/b",
    "/kbs/v0/./a",
    "//x/kbs/v0/a",
  ];
  bad.push(
    "/kbs/v0/a%2fb",
    "/kbs/v0/a%5c..",
    "/kbs/v0/a\\b",
    "/kbs/v0/a b",
    "/kbs/v0/a#b",
    "http://x/kbs/v0/a",
    "/kbs/v0/é",
  );
  for (const path of bad) assert.ok(!isBrokerPath(path), path);
});
