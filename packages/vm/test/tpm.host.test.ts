import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { findProgram, TpmFactory } from "../src/index.ts";
import { startTpm } from "../src/tpm.ts";
import { keepOneBank } from "../src/tpm-banks.ts";
import { eventually } from "./world.ts";

const base = mkdtempSync(join(tmpdir(), "shelter-tpm-"));
after(() => rmSync(base, { recursive: true, force: true }));

test("a state that is not exactly as expected is left alone", () => {
  const file = join(base, "tpm2-00.permall");
  const banks = "00000004000403000000000b03ffffff000c03000000000d03000000";
  for (const [content, changed] of [
    ["00ff", false],
    [`aa${banks}bb${banks}`, false],
    [`aa${banks}bb`, true],
  ] as const) {
    writeFileSync(file, Buffer.from(content, "hex"));
    assert.equal(keepOneBank(base), changed);
    const now = readFileSync(file).toString("hex");
    assert.equal(now.length, content.length);
    if (!changed) assert.equal(now, content);
    else assert.equal(now, "aa00000004000b03ffffff000b03000000000b03000000000b03000000bb");
  }
});

const missing = ["swtpm", "swtpm_setup", "setpriv"].filter((p) => findProgram(p) === null);

describe("software TPMs of a user", {
  skip: missing.length > 0 ? `needs ${missing.join(", ")}` : false,
}, () => {
  const factory = new TpmFactory(join(base, "state"));

  test("two made at once are two, signed by the user's own authority", async () => {
    const [a, b] = [join(base, "a"), join(base, "b")];
    await Promise.all([factory.provide(a), factory.provide(b)]);
    assert.ok(!readFileSync(join(a, "tpm2-00.permall")).equals(readFileSync(join(b, "tpm2-00.permall"))));
    const [root, issuer] = factory.authorityFiles.map((f) => new X509Certificate(readFileSync(f)));
    assert.ok(root !== undefined && issuer?.verify(root.publicKey) === true);
    assert.ok(!existsSync(`${a}.log`));
  });

  test("a spare one is made once, and used by the next run", async () => {
    await factory.prepareSpare();
    await factory.prepareSpare();
    const spares = join(base, "state", "tpm", "spare");
    assert.equal(readdirSync(spares).length, 1);
    const kept = readFileSync(join(spares, readdirSync(spares)[0] as string, "tpm2-00.permall"));
    await factory.provide(join(base, "c"));
    assert.ok(readFileSync(join(base, "c", "tpm2-00.permall")).equals(kept));
    assert.equal(readdirSync(spares).length, 0);
    assert.deepEqual(readdirSync(join(base, "state", "tpm", "half")), []);
  });

  test("making one that is given up leaves nothing, no process either", async () => {
    const half = join(base, "state", "tpm", "half");
    /** Processes whose command line names the half-made state: swtpm_setup and the swtpm it starts. */
    const busy = (): string[] =>
      readdirSync("/proc").filter((pid) => {
        try {
          return /^\d+$/.test(pid) && readFileSync(`/proc/${pid}/cmdline`, "utf8").includes(half);
        } catch {
          return false;
        }
      });
    const abort = new AbortController();
    const making = factory.prepareSpare(abort.signal);
    while (busy().length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
    abort.abort();
    await assert.rejects(making, { code: "TPM_SETUP" });
    assert.deepEqual(readdirSync(half), []);
    for (let i = 0; busy().length > 0 && i < 500; i++)
      await new Promise((resolve) => setTimeout(resolve, 10));
    assert.deepEqual(busy(), []);
  });

  test("it starts, and ends with whoever started it", async () => {
    const directory = join(base, "d");
    await factory.provide(directory);
    const tpm = await startTpm(directory, join(base, "sock"), join(base, "log"));
    assert.ok(existsSync(join(base, "sock")));
    tpm.kill("SIGKILL");
    assert.equal((await tpm.ended).signal, "SIGKILL");
  });

  test("it has the SHA-256 bank, all of it, and tells of no other", async () => {
    const directory = join(base, "e");
    await factory.provide(directory);
    const socket = join(base, "server");
    const swtpm = spawn("swtpm", [
      "socket",
      "--tpm2",
      ...["--tpmstate", `dir=${directory}`, "--server", `type=unixio,path=${socket}`],
      ...["--flags", "not-need-init,startup-clear", "--terminate"],
    ]);
    try {
      await eventually("swtpm listens", () => existsSync(socket));
      const client = connect(socket);
      // TPM2_GetCapability(TPM_CAP_PCRS, 0, 1), TPM 2.0 Library part 3, section 30.2.
      client.write(Buffer.from("8001000000160000017a000000050000000000000001", "hex"));
      const [reply] = (await client.take(1).toArray()) as Buffer[];
      client.destroy();
      assert.equal(reply?.readUInt32BE(6), 0);
      const banks: string[] = [];
      for (let i = 0; i < (reply?.readUInt32BE(15) ?? 0); i++)
        banks.push(reply?.subarray(19 + i * 6, 25 + i * 6).toString("hex") ?? "");
      assert.equal(banks[0], "000b03ffffff");
      assert.ok(banks.every((b) => b.startsWith("000b03")));
    } finally {
      swtpm.kill("SIGKILL");
    }
  });
});
