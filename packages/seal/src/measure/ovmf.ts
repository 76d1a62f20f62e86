import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { ByteReader, digestOf, fromHex, sameBytes, toHex } from "@shelter/base";
import { SealError } from "../errors.ts";
import { startTool } from "../tool.ts";

/** The parts of an OVMF build that its own SEC phase unpacks into memory and its PEI phase measures. */
export type Firmware = {
  /** What it is, for a person. */
  readonly name: string;
  /** The volume of the PEI phase as it is stored, before its own modules write into it. */
  readonly pei: Uint8Array;
  readonly dxeDigest: string;
  readonly peiLayout: PeiLayout;
};

/** Where the PEI volume is written to while it runs. */
export type PeiLayout = {
  /** Offset of PlatformPei's `mPlatformInfoHob`. */
  readonly platformInfo: number;
  /** Offsets of flags that are 1 once the phase is over. */
  readonly flags: readonly number[];
};

/**
 * Builds whose writable data is known. The PEI volume runs where it was unpacked, so what is measured holds
 * variables of its modules; where they lie is the compiler's choice and part of no interface. To add a build:
 * boot it, save its volume with QMP `pmemsave` at the address the event log gives, and compare with the stored one.
 */
const KNOWN: Readonly<Record<string, { name: string; layout: PeiLayout }>> = {
  "sha256:b157d97b1f69729514feb7f201d2cbe4957f23ab77920e361fe9f822ba49ca4c": {
    name: "Debian ovmf 2022.11-6+deb12u2, OVMF_CODE_4M.fd",
    layout: { platformInfo: 0xe0c0, flags: [0xe14a, 0xe14b] },
  },
};

/** Where Debian's package `ovmf` puts the firmware of the `vtpm` platform. */
export const DEFAULT_FIRMWARE = "/usr/share/OVMF/OVMF_CODE_4M.fd";

const LZMA_SECTION = fromHex("98584eee143959429d6edc7bd79403cf"); // EE4E5898-3914-4259-9D6E-DC7BD79403CF, mixed endian
const EFI_SECTION_GUID_DEFINED = 0x02;
const EFI_SECTION_FIRMWARE_VOLUME_IMAGE = 0x17;
const MAX_FIRMWARE_SIZE = 16 * 2 ** 20;
const MAX_UNPACKED_SIZE = 64 * 2 ** 20;

const cache = new Map<string, Firmware>();

/** Reads an OVMF code file; a build that is not known is refused by name. */
export async function readFirmware(path: string): Promise<Firmware> {
  let file: Uint8Array;
  try {
    file = readFileSync(path);
  } catch (cause) {
    throw new SealError("FIRMWARE_UNKNOWN", "unavailable", `cannot read the firmware ${path}`, {
      cause,
      hint: "apt-get install ovmf",
    });
  }
  if (file.byteLength > MAX_FIRMWARE_SIZE) throw malformed(path, `it has ${file.byteLength} bytes`);
  const digest = digestOf(file);
  const known = KNOWN[digest];
  if (known === undefined) {
    throw new SealError(
      "FIRMWARE_UNKNOWN",
      "unavailable",
      `no predictions for the firmware ${path} (${digest})`,
      {
        hint: `use one of: ${Object.values(KNOWN)
          .map((k) => k.name)
          .join("; ")}; or run once and take the values from its event log`,
      },
    );
  }
  const cached = cache.get(digest);
  if (cached !== undefined) return cached;
  const volumes = firmwareVolumes(await unpack(findLzma(file, path), path), path);
  const [pei, dxe] = volumes;
  if (pei === undefined || dxe === undefined || volumes.length !== 2) {
    throw malformed(path, `it unpacks to ${volumes.length} volumes, not 2`);
  }
  const firmware = {
    name: known.name,
    pei,
    dxeDigest: createHash("sha256").update(dxe).digest("hex"),
    peiLayout: known.layout,
  };
  cache.set(digest, firmware);
  return firmware;
}

function malformed(path: string, what: string): SealError {
  return new SealError("FIRMWARE_MALFORMED", "malformed", `${path} is not OVMF: ${what}`);
}

/** The content of the one LZMA section (PI specification, volume 3, 3.2.5.7 EFI_SECTION_GUID_DEFINED). */
function findLzma(file: Uint8Array, path: string): Uint8Array {
  const at = Buffer.from(file.buffer, file.byteOffset, file.byteLength).indexOf(LZMA_SECTION);
  if (at < 4) throw malformed(path, "no LZMA section");
  const reader = new ByteReader(file, path);
  reader.skip(at - 4);
  const size = reader.u16le() | (reader.u8() << 16);
  const type = reader.u8();
  reader.skip(16);
  const offset = reader.u16le();
  if (type !== EFI_SECTION_GUID_DEFINED || offset < 24 || size <= offset) {
    throw malformed(path, "its LZMA section has no header");
  }
  reader.skip(offset - 22);
  return reader.take(size - offset);
}

async function unpack(packed: Uint8Array, path: string): Promise<Uint8Array> {
  const { child, ended } = startTool("xz", ["--format=lzma", "--decompress", "--stdout"], {
    stdio: ["pipe", "pipe", "pipe"],
  });
  const chunks: Uint8Array[] = [];
  let size = 0;
  child.stdout?.on("data", (chunk: Uint8Array) => {
    size += chunk.byteLength;
    if (size > MAX_UNPACKED_SIZE) child.kill("SIGKILL");
    else chunks.push(chunk);
  });
  child.stdin?.on("error", () => undefined); // `ended` tells
  child.stdin?.end(packed);
  try {
    await ended;
  } catch (cause) {
    if (cause instanceof SealError && cause.code === "TOOL_MISSING") throw cause;
    throw new SealError("FIRMWARE_MALFORMED", "malformed", `cannot unpack the firmware ${path}`, { cause });
  }
  return Buffer.concat(chunks);
}

/** The firmware volumes among the sections, in order. */
function firmwareVolumes(sections: Uint8Array, path: string): Uint8Array[] {
  const reader = new ByteReader(sections, path);
  const volumes: Uint8Array[] = [];
  while (reader.remaining >= 4) {
    const start = reader.offset;
    let size = reader.u16le() | (reader.u8() << 16);
    const type = reader.u8();
    if (size === 0xffffff) size = reader.u32le();
    const header = reader.offset - start;
    if (size < header) throw malformed(path, `a section of ${size} bytes at ${start}`);
    const content = reader.take(size - header);
    if (type === EFI_SECTION_FIRMWARE_VOLUME_IMAGE) {
      if (!sameBytes(content.subarray(40, 44), Buffer.from("_FVH"))) {
        throw malformed(path, `no volume header at ${toHex(content.subarray(40, 44))}`);
      }
      volumes.push(content);
    }
    const padding = (4 - (reader.offset % 4)) % 4;
    reader.skip(Math.min(padding, reader.remaining));
  }
  return volumes;
}
