import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { createInstance, type Instance, type InstanceConfig } from "../src/index.ts";

const FAKE_QEMU = new URL("./fake-qemu.ts", import.meta.url).pathname;

/** A state directory, a runtime directory and a PATH in which `qemu-system-x86_64` is a script of ours. */
export class World {
  readonly directory: string = mkdtempSync(join(tmpdir(), "shelter-vm-"));
  readonly state: string;
  readonly image: string;
  readonly #before: Record<string, string | undefined> = {};

  constructor() {
    this.state = join(this.directory, "state");
    this.image = join(this.directory, "image");
    const bin = join(this.directory, "bin");
    for (const d of [this.state, this.image, bin, join(this.directory, "run")]) mkdirSync(d, { mode: 0o700 });
    for (const f of ["kernel", "initrd"]) writeFileSync(join(this.image, f), f);
    writeFileSync(join(this.image, "manifest.json"), '{"version":1}');
    const script = join(bin, "qemu-system-x86_64");
    writeFileSync(script, `#!/bin/sh\nexec ${process.execPath} ${FAKE_QEMU} "$@"\n`);
    chmodSync(script, 0o755);
    this.set("PATH", `${bin}${delimiter}${process.env["PATH"]}`);
    this.set("XDG_RUNTIME_DIR", join(this.directory, "run"));
    this.set("FAKE_GUEST", "cat");
  }

  set(name: string, value: string): void {
    if (!(name in this.#before)) this.#before[name] = process.env[name];
    process.env[name] = value;
  }

  config(change: Partial<InstanceConfig> = {}): InstanceConfig {
    return {
      image: {
        identity: `sha256:${"ab".repeat(32)}`,
        name: "demo:latest",
        directory: this.image,
        shape: "initrd",
        cmdline: `quiet shelter.manifest=${"cd".repeat(32)}`,
      },
      platform: "none",
      accelerator: "tcg",
      memory: 256 << 20,
      cpus: 1,
      outbound: false,
      attest: false,
      broker: null,
      args: null,
      env: [],
      tty: false,
      stdin: true,
      mounts: [],
      ports: [],
      remove: false,
      bootTimeout: null,
      ...change,
    };
  }

  instance(change: Partial<InstanceConfig> = {}, name?: string): Instance {
    return createInstance({ state: this.state, name, config: this.config(change) });
  }

  close(): void {
    for (const [name, value] of Object.entries(this.#before)) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Everything a stream yields, as text. */
export async function textOf(stream: AsyncIterable<Buffer>): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of stream) parts.push(part);
  return Buffer.concat(parts).toString();
}

/** Waits until something holds, looking often; fails by name when it does not come to hold. */
export async function eventually(what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`it never came to: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
