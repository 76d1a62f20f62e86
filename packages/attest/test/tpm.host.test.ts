import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import {
  endorsementKey,
  makeCredential,
  parseTpm2bPublic,
  parseTpmQuote,
  parseTpmSignature,
  publicKeyOf,
  verifyTpmEvidence,
} from "@shelter/attest";
import { sameBytes } from "@shelter/base";

/** Our half of the TPM protocol against a TPM in software, driven by tpm2-tools. */

const TOOLS = ["swtpm", "swtpm_setup", "tpm2_createek", "tpm2_activatecredential"];
const missing = TOOLS.filter(
  (tool) => !(process.env["PATH"] ?? "").split(":").some((directory) => existsSync(join(directory, tool))),
);
const skip = missing.length > 0 ? `needs ${missing.join(", ")} (packages swtpm-tools, tpm2-tools)` : false;

let work = "";
let tpm: ReturnType<typeof spawn> | undefined;

function tool(name: string, ...args: string[]): void {
  const env = { ...process.env, TPM2TOOLS_TCTI: `swtpm:path=${join(work, "tpm")}` };
  execFileSync(name, args, { cwd: work, env, stdio: ["ignore", "ignore", "pipe"], timeout: 30_000 });
}

const file = (name: string): Uint8Array => new Uint8Array(readFileSync(join(work, name)));

before(async () => {
  if (skip !== false) return;
  work = mkdtempSync(join(tmpdir(), "tpm-"));
  const state = join(work, "state");
  mkdirSync(state);
  execFileSync("swtpm_setup", ["--tpm2", "--tpmstate", state, "--pcr-banks", "sha256", "--overwrite"], {
    stdio: "ignore",
    timeout: 60_000,
  });
  const socket = join(work, "tpm");
  tpm = spawn(
    "swtpm",
    [
      ...["socket", "--tpm2", "--tpmstate", `dir=${state}`],
      ...["--server", `type=unixio,path=${socket}`, "--ctrl", `type=unixio,path=${socket}.ctrl`],
      ...["--flags", "not-need-init,startup-clear"],
    ],
    { stdio: "ignore" },
  );
  for (let i = 0; i < 100 && !existsSync(`${socket}.ctrl`); i++) await sleep(50);
});

after(() => {
  tpm?.kill();
  if (work !== "") rmSync(work, { recursive: true, force: true });
});

for (const algorithm of ["rsa", "ecc"] as const) {
  test(`a TPM opens the credential made for its ${algorithm} key, and only for the key it names`, {
    skip,
  }, () => {
    tool("tpm2_flushcontext", "-t");
    tool("tpm2_createek", "-c", "ek.ctx", "-G", algorithm, "-u", "ek.pub");
    const ak = ["tpm2_createak", "-C", "ek.ctx", "-G", "rsa", "-g", "sha256", "-s", "rsassa"] as const;
    tool(...ak, "-c", "ak.ctx", "-u", "ak.pub", "-n", "ak.name");
    const area = parseTpm2bPublic(file("ak.pub"));
    assert.ok(sameBytes(area.name, file("ak.name")));

    const secret = new Uint8Array(randomBytes(32));
    const key = endorsementKey(publicKeyOf(parseTpm2bPublic(file("ek.pub"))));
    const activate = (name: Uint8Array): void => {
      const made = makeCredential(key, name, secret, (count) => new Uint8Array(randomBytes(count)));
      // The header tpm2_makecredential writes before the two structures.
      const head = Buffer.from("badcc0de00000001", "hex");
      writeFileSync(
        join(work, "credential"),
        Buffer.concat([head, made.credentialBlob, made.encryptedSecret]),
      );
      tool("tpm2_flushcontext", "-t");
      tool("tpm2_startauthsession", "--policy-session", "-S", "session");
      try {
        tool("tpm2_policysecret", "-S", "session", "-c", "e");
        const policy = ["-P", "session:session"];
        tool(
          "tpm2_activatecredential",
          "-c",
          "ak.ctx",
          "-C",
          "ek.ctx",
          "-i",
          "credential",
          "-o",
          "opened",
          ...policy,
        );
      } finally {
        tool("tpm2_flushcontext", "session");
      }
    };
    activate(area.name);
    assert.ok(sameBytes(file("opened"), secret));
    const other = Uint8Array.from(area.name, (b, i) => (i === 9 ? b ^ 1 : b));
    assert.throws(() => activate(other), /integrity check failed|0x1DF|0x9F/i);
  });
}

for (const [scheme, algorithm] of [
  ["rsassa", "rsa"],
  ["rsapss", "rsa"],
  ["ecdsa", "ecc"],
] as const) {
  test(`accepts a TPM's ${scheme} quote over what was extended, and refuses it over anything else`, {
    skip,
  }, () => {
    tool("tpm2_flushcontext", "-t");
    tool("tpm2_createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub");
    const ak = [
      "-C",
      "ek.ctx",
      "-G",
      algorithm,
      "-g",
      "sha256",
      "-s",
      scheme,
      "-c",
      "ak.ctx",
      "-u",
      "ak.pub",
    ];
    tool("tpm2_createak", ...ak, "-n", "ak.name");
    tool("tpm2_pcrextend", `9:sha256=${"5a".repeat(32)}`);
    tool("tpm2_pcrread", "sha256:4,9", "-o", "pcrs");
    tool("tpm2_flushcontext", "-t");
    const quoted = ["-c", "ak.ctx", "-l", "sha256:4,9", "-q", "c0ffee", "-m", "message", "-s", "signature"];
    tool("tpm2_quote", ...quoted, "-g", "sha256", "--scheme", scheme);
    const area = parseTpm2bPublic(file("ak.pub"));
    const pcrs = file("pcrs");
    const values = new Map([
      [4, pcrs.subarray(0, 32)],
      [9, pcrs.subarray(32, 64)],
    ]);
    const judge = (nonce: string, nine: Uint8Array | undefined): string =>
      verifyTpmEvidence({
        evidence: {
          quote: parseTpmQuote(file("message")),
          signature: parseTpmSignature(file("signature")),
          akPublic: publicKeyOf(area),
          akTpmPublic: area,
          pcrs: new Map([["sha256", new Map([...values, [9, nine ?? new Uint8Array()]])]]),
        },
        nonce: Buffer.from(nonce, "hex"),
        trust: { by: "caller" },
        at: new Date(0),
      }).outcome;
    assert.equal(judge("c0ffee", values.get(9)), "accepted");
    assert.equal(judge("c0ffef", values.get(9)), "untrusted");
    assert.equal(judge("c0ffee", new Uint8Array(32)), "untrusted");
  });
}
