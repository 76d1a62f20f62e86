/**
 * One thing altered at a time. Each time: no secret, nothing altered runs, a named reason in the terminal and, where
 * the broker is asked at all, at the broker; exit status not 0. Measured virtual machines, real TPM quotes.
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readFileSync,
  readSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { busyboxLayer, dockerArchive } from "../tools/debian-images.ts";
import { HostileRelay, type Mischief } from "./support/relay.ts";
import { finished, noMachines, type Result, Sandbox } from "./support/shelter.ts";

const SECRET = "petrichor-4711";
const skip = noMachines();

interface Inspected {
  readonly directory: string;
  readonly manifest: { readonly root: { readonly squashfs: { readonly size: number } } };
}

interface SessionRow {
  readonly id: string;
  readonly state: string;
  readonly reason: string | null;
}

/** Firmware that boots as before and says one letter otherwise in its menu: unpacked, altered, packed again. */
function alteredFirmware(file: string): Buffer {
  const code = readFileSync(file);
  // A section packed with LZMA (UEFI PI, volume 3, section 3.2.4): size, type, this GUID, offset of the data.
  const guid = code.indexOf(Buffer.from("98584eee143959429d6edc7bd79403cf", "hex"));
  const begin = guid - 4 + code.readUInt16LE(guid + 16);
  const end = guid - 4 + code.readUIntLE(guid - 4, 3);
  const xz = (mode: string, input: Buffer): Buffer => {
    const { status, stdout, stderr } = spawnSync("xz", ["--format=lzma", mode, "-c"], {
      input,
      maxBuffer: 1 << 26,
    });
    assert.equal(status, 0, stderr.toString());
    return stdout;
  };
  const volumes = xz("-d", code.subarray(begin, end));
  const letter = volumes.indexOf(Buffer.from("Boot Manager", "utf16le"));
  assert.ok(letter > 0);
  volumes[letter] = (volumes[letter] ?? 0) ^ 1;
  const packed = xz("-9e", volumes);
  // xz leaves the size open, which the firmware does not understand.
  packed.writeBigUInt64LE(BigInt(volumes.length), 5);
  assert.ok(packed.length <= end - begin);
  code.fill(0, begin, end);
  packed.copy(code, begin);
  return code;
}

describe("an attested guest", { skip: skip ?? false, timeout: 1_500_000 }, () => {
  let sandbox: Sandbox;
  let relay: HostileRelay;
  const directories = new Map<string, Inspected>();

  before(async () => {
    sandbox = new Sandbox();
    await sandbox.broker();
    relay = await HostileRelay.before(sandbox.env["SHELTER_BROKER"] ?? "");
    const yaml = `
secrets: [{ from: "kbs:///demo/token/word", file: /run/secrets/word }]
resources: { memory: 192MiB }
`;
    writeFileSync(sandbox.path("shelter.yaml"), yaml);
    const archive = dockerArchive(
      sandbox.path("app.tar"),
      "app:1",
      [busyboxLayer({ "etc/motd": { content: "unaltered\n" } })],
      { Entrypoint: ["/bin/sh", "-c", "cat /etc/motd /run/secrets/word"], Env: ["PATH=/bin"] },
    );
    sandbox.ok(["broker", "secret", "set", "kbs:///demo/token/word"], { input: SECRET });
    sandbox.ok(["build", "-q", "-f", "shelter.yaml", "-t", "plain", `docker-archive:${archive}`]);
    const broker = sandbox.env["SHELTER_BROKER"] ?? "";
    sandbox.ok([
      "build",
      "-q",
      "-f",
      "shelter.yaml",
      "-t",
      "sealed",
      "--encrypt",
      "kbs:///demo/disk-key/sealed",
      "--broker",
      broker,
      `docker-archive:${archive}`,
    ]);
    sandbox.ok([
      "build",
      "-q",
      "-f",
      "shelter.yaml",
      "-t",
      "inside",
      "-T",
      "initrd",
      `docker-archive:${archive}`,
    ]);
    for (const name of ["plain", "sealed", "inside"]) {
      sandbox.ok(["broker", "reference", "set"], { input: sandbox.ok(["measure", name, "--reference"]) });
      sandbox.ok(["broker", "policy", "allow", name, "kbs:///demo/token/word"]);
      const [image] = JSON.parse(sandbox.ok(["inspect", name, "--json"])) as [Inspected];
      directories.set(name, image);
    }
    sandbox.ok(["broker", "policy", "allow", "sealed", "kbs:///demo/disk-key/sealed"]);
  });

  after(async () => {
    await relay?.[Symbol.asyncDispose]();
    sandbox?.[Symbol.dispose]();
  });

  function run(name: string, env: NodeJS.ProcessEnv = {}): Result {
    return sandbox.run(["run", "--rm", "--platform", "vtpm", name], { env });
  }

  function lastSession(): SessionRow | undefined {
    return (JSON.parse(sandbox.ok(["broker", "sessions", "--json"])) as SessionRow[])[0];
  }

  /** Runs and holds the result against what must be true of every alteration. */
  function refuses(name: string, terminal: RegExp, broker: RegExp | null, env: NodeJS.ProcessEnv = {}): void {
    const before = lastSession()?.id;
    const result = run(name, env);
    assert.notEqual(result.status, 0, result.stdout);
    assert.doesNotMatch(result.stdout + result.stderr, new RegExp(SECRET), "the secret came out");
    assert.doesNotMatch(result.stdout, /unaltered/, "the program ran");
    assert.match(result.stderr, terminal);
    if (broker !== null) {
      const session = lastSession();
      assert.notEqual(session?.id, before, "the broker was not asked");
      assert.match(session?.reason ?? "", broker);
    }
  }

  /** Alters a file of an image for the time of one run. */
  function altered(name: string, file: string, change: (path: string) => void, then: () => void): void {
    const path = join(directories.get(name)?.directory ?? "", file);
    const kept = sandbox.path(`kept-${file}`);
    cpSync(path, kept);
    try {
      change(path);
      then();
    } finally {
      cpSync(kept, path);
    }
  }

  function flip(path: string, offset: number): void {
    const fd = openSync(path, "r+");
    const byte = Buffer.alloc(1);
    readSync(fd, byte, 0, 1, offset);
    byte[0] = (byte[0] ?? 0) ^ 1;
    writeSync(fd, byte, 0, 1, offset);
    closeSync(fd);
  }

  function middle(name: string): number {
    return Math.floor((directories.get(name)?.manifest.root.squashfs.size ?? 0) / 2);
  }

  test("unaltered, receives its secret, in every shape", () => {
    for (const name of ["plain", "sealed", "inside"]) {
      const result = run(name);
      assert.equal(result.stdout, `unaltered\n${SECRET}`, `${name}: ${result.stderr}`);
      assert.equal(result.status, 0);
    }
  });

  test("kernel: one byte of its version string", () => {
    altered(
      "plain",
      "kernel",
      (path) => flip(path, readFileSync(path).indexOf("6.1.0-")),
      () => refuses("plain", /kernel/, /kernel/),
    );
  });

  test("initrd: a few bytes behind its end", () => {
    altered(
      "plain",
      "initrd",
      (path) => writeFileSync(path, Buffer.concat([readFileSync(path), Buffer.alloc(512)])),
      () => refuses("plain", /initrd/, /initrd/),
    );
  });

  test("command line: one word more", () => {
    // A host that starts the machine otherwise than it was told to.
    const bin = sandbox.path("bin");
    mkdirSync(bin, { recursive: true });
    const script = `#!/bin/bash\nexec /usr/bin/qemu-system-x86_64 "\${@/#quiet /quiet debug }"\n`;
    writeFileSync(join(bin, "qemu-system-x86_64"), script, { mode: 0o755 });
    refuses("plain", /command line/, /command line/, { PATH: `${bin}:${process.env["PATH"]}` });
  });

  test("manifest: one grant more", () => {
    altered(
      "plain",
      "manifest.json",
      (path) => writeFileSync(path, readFileSync(path, "utf8").replace('"exec":[]', '"exec":[["**"]]')),
      () => refuses("plain", /manifest/, /manifest/i),
    );
  });

  test("root: one bit", () => {
    altered(
      "plain",
      "root.squashfs",
      (path) => flip(path, middle("plain")),
      () => refuses("plain", /root/, /ROOT/),
    );
  });

  test("hash tree: one bit", () => {
    altered(
      "plain",
      "root.verity",
      (path) => flip(path, 4096 + 100),
      () => refuses("plain", /root|verity/, /ROOT/),
    );
  });

  test("encrypted root: one bit", () => {
    altered(
      "sealed",
      "root.squashfs",
      (path) => flip(path, middle("sealed")),
      () => refuses("sealed", /root/, /ROOT/),
    );
  });

  test("firmware: one bit of a text in it", () => {
    const other = sandbox.path("firmware.fd");
    writeFileSync(other, alteredFirmware("/usr/share/OVMF/OVMF_CODE_4M.fd"));
    refuses("plain", /firmware/, /firmware/, { SHELTER_OVMF_CODE: other });
  });

  test("reference value: one digit", () => {
    const reference = JSON.parse(sandbox.ok(["measure", "plain", "--reference"])) as {
      values: { pcrs: Record<string, string> }[];
    };
    const good = JSON.stringify(reference);
    for (const value of reference.values) {
      value.pcrs["9"] = (value.pcrs["9"] ?? "").replace(/^./, (c) => (c === "0" ? "1" : "0"));
    }
    sandbox.ok(["broker", "reference", "rm", "plain"]);
    sandbox.ok(["broker", "reference", "set"], { input: JSON.stringify(reference) });
    try {
      refuses("plain", /PCR 9/, /PCR 9/);
    } finally {
      sandbox.ok(["broker", "reference", "rm", "plain"]);
      sandbox.ok(["broker", "reference", "set"], { input: good });
    }
  });

  let recorded: Buffer | undefined;
  const mischiefs: Readonly<Record<string, { mischief: Mischief; terminal: RegExp; broker: RegExp | null }>> =
    {
      "the nonce": {
        mischief: {
          answer: (m) => {
            if (!m.path.endsWith("/auth")) return;
            const body = JSON.parse(m.body.toString()) as { nonce: string };
            body.nonce = Buffer.alloc(32, 7).toString("base64");
            m.body = Buffer.from(JSON.stringify(body));
          },
        },
        terminal: /nonce/,
        broker: /nonce/,
      },
      "the guest's key": {
        mischief: {
          request: (m) => {
            if (!m.path.endsWith("/attest")) return;
            recorded ??= m.body;
            const body = JSON.parse(m.body.toString()) as {
              "runtime-data": { "tee-pubkey": { x: string; y: string } };
            };
            // The public key of RFC 7515, appendix A.3: a valid point whose private half is known to everyone.
            Object.assign(body["runtime-data"]["tee-pubkey"], {
              x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
              y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            });
            m.body = Buffer.from(JSON.stringify(body));
          },
        },
        terminal: /report.data|key|nonce/i,
        broker: /report.data|key|nonce/i,
      },
      "a relayed secret": {
        mischief: {
          answer: (m) => {
            if (!m.path.includes("/resource/")) return;
            const body = JSON.parse(m.body.toString()) as { ciphertext: string };
            body.ciphertext = (body.ciphertext.startsWith("A") ? "B" : "A") + body.ciphertext.slice(1);
            m.body = Buffer.from(JSON.stringify(body));
          },
        },
        terminal: /secret|decrypt|altered/i,
        broker: null,
      },
      "replayed evidence of another session": {
        mischief: {
          request: (m) => {
            if (m.path.endsWith("/attest") && recorded !== undefined) m.body = recorded;
          },
        },
        terminal: /nonce/,
        broker: /nonce/,
      },
    };
  for (const [name, { mischief, terminal, broker }] of Object.entries(mischiefs)) {
    test(`${name}, altered on the way`, async () => {
      relay.mischief = mischief;
      const before = lastSession()?.id;
      const child = sandbox.start(["run", "--rm", "--platform", "vtpm", "--broker", relay.url, "plain"]);
      const { status, stdout, stderr } = await finished(child);
      assert.notEqual(status, 0, stdout);
      assert.doesNotMatch(stdout + stderr, new RegExp(`${SECRET}|unaltered`));
      assert.match(stderr, terminal);
      if (broker !== null) {
        const session = lastSession();
        assert.notEqual(session?.id, before, "the broker was not asked");
        assert.match(session?.reason ?? "", broker);
      }
    });
  }

  test("the audit log holds all of it, unbroken, and no secret", () => {
    assert.match(sandbox.ok(["broker", "audit", "verify"]), /unbroken/);
    assert.doesNotMatch(sandbox.ok(["broker", "audit", "show", "-n", "500", "--json"]), new RegExp(SECRET));
  });
});
