import { ByteReader } from "@shelter/base";
import { readGuid } from "./variable.ts";

const MAX_NODES = 64;
/** Where OVMF shows kernel and initrd of a direct boot (OvmfPkg, QemuKernelLoaderFsMedia). */
const QEMU_KERNEL_LOADER = "1428f772-b64a-441e-b8c3-9ebdd7f893c7";

/** A UEFI device path in words: file names, firmware files and memory ranges; other nodes are left out. */
export function devicePathText(bytes: Uint8Array): string {
  const parts: string[] = [];
  const reader = new ByteReader(bytes, "device path");
  for (let i = 0; i < MAX_NODES && reader.remaining >= 4; i++) {
    const type = reader.u8();
    const subtype = reader.u8();
    const length = reader.u16le();
    if (length < 4 || length - 4 > reader.remaining || type === 0x7f) break;
    const text = nodeText(type, subtype, reader.take(length - 4));
    if (text !== undefined) parts.push(text);
  }
  return parts.join("/");
}

function nodeText(type: number, subtype: number, body: Uint8Array): string | undefined {
  const buffer = Buffer.from(body);
  if (type === 4 && subtype === 4) return buffer.toString("utf16le").replace(/\0+$/, "");
  if (type === 4 && (subtype === 6 || subtype === 7) && body.length === 16)
    return `firmware file ${readGuid(body)}`;
  if (type === 4 && subtype === 3 && body.length >= 16) {
    const guid = readGuid(body.subarray(0, 16));
    return guid === QEMU_KERNEL_LOADER ? "given by QEMU" : `vendor media ${guid}`;
  }
  if (type === 1 && subtype === 4 && body.length >= 16) return `vendor ${readGuid(body.subarray(0, 16))}`;
  if (type === 1 && subtype === 3 && body.length === 20) {
    return `memory 0x${buffer.readBigUInt64LE(4).toString(16)}`;
  }
  if (type === 3 && subtype === 24) return `uri ${buffer.toString("latin1")}`;
  return undefined;
}
