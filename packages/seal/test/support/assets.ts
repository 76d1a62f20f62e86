import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

/** Names of the modules an initrd wants, with what each says it depends on. */
const MODULES: Readonly<Record<string, string>> = {
  virtio: "depends=virtio_ring",
  virtio_ring: "depends=",
  virtio_pci: "depends=virtio,virtio_ring",
  virtio_console: "depends=virtio",
  vmw_vsock_virtio_transport: "depends=virtio",
  virtio_blk: "depends=virtio",
  "sha256-ssse3": "depends=",
  "dm-mod": "depends=",
  "dm-verity": "depends=dm-mod",
  squashfs: "depends=",
  overlay: "depends=",
  loop: "depends=",
  "aesni-intel": "depends=",
  ecb: "depends=",
  xts: "depends=\0softdep=pre: ecb",
  "dm-crypt": "depends=dm-mod",
  fuse: "depends=",
  virtio_net: "depends=virtio,virtio_ring",
};

/** The smallest ELF64 file with a `.modinfo` section. */
export function elfModule(modinfo: string): Buffer {
  const names = Buffer.from("\0.modinfo\0.shstrtab\0");
  const info = Buffer.from(`license=GPL\0${modinfo}\0`);
  const header = Buffer.alloc(64);
  header.write("\x7fELF\x02\x01\x01", "latin1");
  const table = 64 + info.length + names.length;
  header.writeBigUInt64LE(BigInt(table), 40);
  header.writeUInt16LE(64, 58);
  header.writeUInt16LE(3, 60);
  header.writeUInt16LE(2, 62);
  const section = (name: number, offset: number, size: number): Buffer => {
    const bytes = Buffer.alloc(64);
    bytes.writeUInt32LE(name, 0);
    bytes.writeBigUInt64LE(BigInt(offset), 24);
    bytes.writeBigUInt64LE(BigInt(size), 32);
    return bytes;
  };
  return Buffer.concat([
    header,
    info,
    names,
    Buffer.alloc(64),
    section(1, 64, info.length),
    section(10, 64 + info.length, names.length),
  ]);
}

/** A directory of guest parts that nothing boots, and that sealing cannot tell from real ones. */
export function fakeAssets(directory: string): string {
  mkdirSync(join(directory, "modules/kernel"), { recursive: true });
  writeFileSync(join(directory, "vmlinuz"), "a kernel");
  writeFileSync(join(directory, "agent"), "an agent");
  writeFileSync(join(directory, "kernel.json"), '{"release":"6.1.0-0-test"}');
  for (const [name, info] of Object.entries(MODULES)) {
    writeFileSync(join(directory, "modules/kernel", `${name}.ko`), elfModule(info));
  }
  return directory;
}
