import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, join } from "node:path";
import type { Tpm } from "./guest.ts";
import { type BootEvent, digestOf, eventLog } from "./soft-tpm.ts";

const TOOLS = ["swtpm", "swtpm_setup", "swtpm_localca", "tpm2_createek", "tpm2_createak", "tpm2_quote"];
const ALL = Array.from({ length: 24 }, (_, i) => i);

/** The first tool that is not installed, or null. */
export function missingTool(): string | null {
  const directories = [...(process.env["PATH"] ?? "").split(delimiter), "/usr/bin", "/usr/sbin"];
  return TOOLS.find((tool) => !directories.some((d) => existsSync(join(d, tool)))) ?? null;
}

/** A TPM of swtpm, driven by tpm2-tools: nothing in it is ours. */
export class SwTpm implements Tpm {
  readonly akTpmPublic: Buffer;
  readonly akSpki: Buffer;
  readonly ekCertificate: Buffer;
  readonly events: readonly BootEvent[];
  readonly pcrs: readonly Buffer[];
  /** PEM certificate of whoever signed the endorsement certificate. */
  readonly issuer: Buffer;
  readonly #dir: string;
  readonly #child: ChildProcess;

  constructor(dir: string, events: readonly BootEvent[]) {
    this.#dir = dir;
    this.events = events;
    this.issuer = manufacture(dir);
    this.#child = spawn(
      "swtpm",
      [
        "socket",
        "--tpm2",
        "--tpmstate",
        `dir=${join(dir, "tpm")}`,
        "--server",
        `type=unixio,path=${join(dir, "tpm.sock")}`,
        "--ctrl",
        `type=unixio,path=${join(dir, "tpm.sock.ctrl")}`,
        "--flags",
        "not-need-init,startup-clear",
      ],
      { stdio: "ignore" },
    );
    while (!existsSync(join(dir, "tpm.sock.ctrl"))) {
      if (this.#child.exitCode !== null) throw new Error("swtpm ended");
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
    this.#tool("tpm2_createek", "-c", "ek.ctx", "-G", "rsa", "-u", "ek.pub");
    this.#tool(
      "tpm2_createak",
      "-C",
      "ek.ctx",
      "-c",
      "ak.ctx",
      "-G",
      "rsa",
      "-g",
      "sha256",
      "-s",
      "rsassa",
      "-u",
      "ak.pub",
    );
    this.#tool("tpm2_readpublic", "-c", "ak.ctx", "-f", "der", "-o", "ak.der");
    this.#tool("tpm2_nvread", "-C", "o", "-o", "ek.der", "0x01c00002");
    this.akTpmPublic = this.#file("ak.pub");
    this.akSpki = this.#file("ak.der");
    this.ekCertificate = this.#file("ek.der");
    for (const event of events)
      this.#tool("tpm2_pcrextend", `${event.pcr}:sha256=${digestOf(event).toString("hex")}`);
    const read = this.#tool("tpm2_pcrread", "sha256");
    this.pcrs = ALL.map((pcr) =>
      Buffer.from(new RegExp(`^ +${pcr} *: 0x([0-9A-F]{64})$`, "m").exec(read)?.[1] ?? "", "hex"),
    );
  }

  eventLog(events: readonly BootEvent[] = this.events): Buffer {
    return eventLog(events);
  }

  quote(extraData: Buffer, selected: readonly number[] = ALL): { message: Buffer; signature: Buffer } {
    this.#tool(
      "tpm2_quote",
      ...["-c", "ak.ctx", "-l", `sha256:${selected.join(",")}`, "-q", extraData.toString("hex")],
      ...["-m", "quote.msg", "-s", "quote.sig", "-g", "sha256"],
    );
    return { message: this.#file("quote.msg"), signature: this.#file("quote.sig") };
  }

  activate(credentialBlob: Buffer, encryptedSecret: Buffer): Buffer {
    // tpm2-tools put a magic number and a version before the two structures.
    const header = Buffer.from("badcc0de00000001", "hex");
    writeFileSync(join(this.#dir, "credential"), Buffer.concat([header, credentialBlob, encryptedSecret]));
    this.#tool("tpm2_startauthsession", "--policy-session", "-S", "session.ctx");
    try {
      this.#tool("tpm2_policysecret", "-S", "session.ctx", "-c", "e");
      this.#tool(
        "tpm2_activatecredential",
        "-c",
        "ak.ctx",
        "-C",
        "ek.ctx",
        "-i",
        "credential",
        "-o",
        "secret",
        "-P",
        "session:session.ctx",
      );
    } finally {
      this.#tool("tpm2_flushcontext", "session.ctx");
    }
    return this.#file("secret");
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once("exit", resolve));
    this.#child.kill("SIGTERM");
    await gone;
  }

  #file(name: string): Buffer {
    return readFileSync(join(this.#dir, name));
  }

  #tool(name: string, ...args: string[]): string {
    const env = { ...process.env, TPM2TOOLS_TCTI: `swtpm:path=${join(this.#dir, "tpm.sock")}` };
    const out = execFileSync(name, args, {
      cwd: this.#dir,
      env,
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 60_000,
    });
    // No resource manager stands between: what a tool leaves loaded must go.
    if (name !== "tpm2_startauthsession" && name !== "tpm2_policysecret") {
      execFileSync("tpm2_flushcontext", ["-t"], { cwd: this.#dir, env, stdio: "ignore", timeout: 60_000 });
    }
    return out.toString("utf8");
  }
}

/** Makes a TPM's state with an RSA endorsement key and its certificate, by an authority of its own. */
function manufacture(dir: string): Buffer {
  const ca = join(dir, "ca");
  mkdirSync(ca, { recursive: true });
  mkdirSync(join(dir, "tpm"));
  const put = (name: string, lines: string[]) => {
    writeFileSync(join(ca, name), `${lines.join("\n")}\n`);
    return join(ca, name);
  };
  const authority = put("localca.conf", [
    `statedir = ${ca}`,
    `signingkey = ${join(ca, "signkey.pem")}`,
    `issuercert = ${join(ca, "issuercert.pem")}`,
    `certserial = ${join(ca, "certserial")}`,
  ]);
  const options = put("localca.options", [
    "--platform-manufacturer Test",
    "--platform-version 1",
    "--platform-model Test",
  ]);
  const localca = execFileSync("sh", ["-c", "command -v swtpm_localca"]).toString().trim();
  const setup = put("setup.conf", [
    `create_certs_tool = ${localca}`,
    `create_certs_tool_config = ${authority}`,
    `create_certs_tool_options = ${options}`,
    "active_pcr_banks = sha256",
  ]);
  execFileSync(
    "swtpm_setup",
    [
      "--tpm2",
      "--tpmstate",
      join(dir, "tpm"),
      "--config",
      setup,
      "--create-ek-cert",
      "--lock-nvram",
      "--pcr-banks",
      "sha256",
      "--vmid",
      randomBytes(4).toString("hex"),
    ],
    { env: { ...process.env, XDG_CONFIG_HOME: dir }, stdio: "ignore", timeout: 120_000 },
  );
  return readFileSync(join(ca, "issuercert.pem"));
}
