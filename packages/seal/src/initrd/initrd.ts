import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { constants, zstdCompressSync } from "node:zlib";
import { type Digest, replaceFile } from "@shelter/base";
import { type Assets, digestFile } from "../assets.ts";
import { SealError } from "../errors.ts";
import { type CpioEntry, writeCpio } from "./cpio.ts";
import { type KernelModule, listModules, readModule } from "./modules.ts";

/**
 * What the guest's kernel may need besides what is built in; what these depend on comes with them. The agent
 * loads each when a run first needs it.
 */
const MODULES: readonly string[] = [
  "virtio_pci",
  "virtio_console",
  "vmw_vsock_virtio_transport",
  "virtio_blk",
  "sha256_ssse3",
  "dm_verity",
  "squashfs",
  "overlay",
  "loop",
  "aesni_intel",
  "xts",
  "dm_crypt",
  "fuse",
  "virtio_net",
];

const FORMAT = 2; // a change of how the initrd is written must not find an older one in the cache
const MAX_CACHED = 4; // initrds of kernels and agents past are not worth their space

/** The archive every image with these parts boots: agent, modules, load order. */
export function makeInitrd(agent: Uint8Array, modulesDirectory: string): Uint8Array {
  const files = listModules(modulesDirectory);
  const read = new Map<string, KernelModule>();
  const builtin = builtinModules(modulesDirectory);
  const get = (name: string): KernelModule | undefined => {
    const known = read.get(name);
    if (known !== undefined) return known;
    const path = files.get(name);
    if (path === undefined) {
      if (builtin.has(name)) return undefined;
      throw new SealError("ASSETS_MISSING", "unavailable", `the guest kernel has no module ${name}`, {
        hint: "remove build/guest and run bash tools/setup.sh",
      });
    }
    const module = readModule(path);
    read.set(name, module);
    return module;
  };

  const order: string[] = [];
  const placed = new Set<string>();
  const place = (name: string): void => {
    if (placed.has(name)) return;
    placed.add(name);
    const module = get(name);
    if (module === undefined) return;
    for (const soft of module.before) if (files.has(soft)) place(soft);
    for (const dependency of module.depends) place(dependency);
    order.push(`${module.file}\n`);
  };
  for (const name of MODULES) place(name);

  const entries: CpioEntry[] = [
    { path: "init", mode: 0o755, data: agent },
    { path: "modules", mode: 0o755 },
    { path: "modules/order", mode: 0o644, data: Buffer.from(order.join("")) },
  ];
  for (const module of read.values()) {
    entries.push({ path: `modules/${module.file}`, mode: 0o644, data: module.bytes });
  }
  return writeCpio(entries);
}

function builtinModules(directory: string): ReadonlySet<string> {
  const path = join(directory, "modules.builtin");
  if (!existsSync(path)) return new Set();
  const names = readFileSync(path, "utf8").split("\n");
  return new Set(names.map((n) => n.slice(n.lastIndexOf("/") + 1, -".ko".length).replaceAll("-", "_")));
}

/**
 * An archive as it is booted. Firmware reads, copies and hashes an initrd at about a thousand instructions a byte
 * under emulation: compressed, a whole boot takes a quarter less than plain, and zstd's higher levels a hundredth less.
 */
export function compressInitrd(archive: Uint8Array): Uint8Array {
  return zstdCompressSync(archive, { params: { [constants.ZSTD_c_compressionLevel]: 9 } });
}

/** The initrd for these parts as a file, made once and kept under the state directory. */
export async function cachedInitrd(assets: Assets, state: string): Promise<{ path: string; agent: Digest }> {
  const agent = await digestFile(assets.agent);
  const key = createHash("sha256")
    .update(`${FORMAT}\0${MODULES.join()}\0${agent}\0${assets.record}`)
    .digest("hex");
  const directory = join(state, "cache", "initrd");
  const path = join(directory, key);
  if (!existsSync(path)) {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    const bytes = compressInitrd(makeInitrd(readFileSync(assets.agent), assets.modules));
    const old = readdirSync(directory).filter((name) => /^[0-9a-f]{64}$/.test(name));
    for (const name of old.slice(0, Math.max(0, old.length - MAX_CACHED + 1)))
      rmSync(join(directory, name), { force: true });
    replaceFile(path, bytes);
  }
  return { path, agent };
}
