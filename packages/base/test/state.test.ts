import assert from "node:assert/strict";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { inspect } from "node:util";
import {
  describe as describeError,
  digestOf,
  parseDigest,
  replaceFile,
  SecretBytes,
  ShelterError,
  stateDirectory,
} from "@shelter/base";

test("a replaced file has the new content, a private mode and leaves nothing beside it", () => {
  const folder = mkdtempSync(join(tmpdir(), "shelter-base-"));
  try {
    const path = join(folder, "state.json");
    replaceFile(path, "one");
    replaceFile(path, "two");
    assert.equal(readFileSync(path, "utf8"), "two");
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.deepEqual(readdirSync(folder), ["state.json"]);
    assert.throws(() => replaceFile(join(folder, "absent", "x"), "y"), { code: "ENOENT" });
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("the state directory follows SHELTER_STATE and is private", () => {
  const folder = mkdtempSync(join(tmpdir(), "shelter-base-"));
  try {
    const path = stateDirectory({ SHELTER_STATE: join(folder, "a", "b") });
    assert.equal(path, join(folder, "a", "b"));
    assert.equal(statSync(path).mode & 0o777, 0o700);
  } finally {
    rmSync(folder, { recursive: true });
  }
});

test("a digest is sha256 and 64 lower-case hex digits and nothing else", () => {
  const empty = digestOf("");
  assert.equal(empty, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  assert.equal(parseDigest(empty), empty);
  for (const bad of [
    empty.toUpperCase(),
    empty.slice(0, -1),
    `${empty}0`,
    `${empty}\n`,
    "sha512:00",
    5,
    null,
  ]) {
    assert.throws(() => parseDigest(bad), { code: "DIGEST_MALFORMED" });
  }
});

test("a secret never prints", () => {
  const secret = new SecretBytes(Buffer.from("hunter2"));
  assert.equal(
    `${secret} ${JSON.stringify({ secret })} ${inspect({ secret })}`,
    '[secret] {"secret":"[secret]"} { secret: [secret] }',
  );
  assert.equal(Buffer.from(secret.reveal()).toString(), "hunter2");
});

test("an error is described with its causes, each once", () => {
  const inner = new Error("no such device");
  const outer = new ShelterError("X", "unavailable", "cannot mount /run/layer3", { cause: inner });
  assert.equal(describeError(outer), "cannot mount /run/layer3: no such device");
});
