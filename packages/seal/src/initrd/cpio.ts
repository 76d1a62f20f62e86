import { SealError } from "../errors.ts";

/** A directory or a regular file of an initrd. */
export type CpioEntry = {
  /** Without a leading slash: `modules/order`. */
  readonly path: string;
  readonly mode: number;
  /** Content of a regular file; absent for a directory. */
  readonly data?: Uint8Array;
};

const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;
const TRAILER = "TRAILER!!!";

/** The bytes before a file's content: header, name, padding (newc: kernel Documentation/driver-api/early-userspace/buffer-format.rst). */
export function cpioHeader(
  path: string,
  inode: number,
  mode: number,
  links: number,
  size: number,
): Uint8Array {
  if (size > 0xffffffff) {
    throw new SealError(
      "SHAPE_UNSUPPORTED",
      "usage",
      `/${path} has ${size} bytes, an initrd holds at most 4 GiB`,
      {
        hint: "build with -T disk",
      },
    );
  }
  const name = Buffer.from(`${path}\0`, "utf8");
  const fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name.byteLength, 0];
  const head = `070701${fields.map((f) => f.toString(16).padStart(8, "0")).join("")}`;
  const length = align4(head.length + name.byteLength);
  const bytes = Buffer.alloc(length);
  bytes.write(head, "latin1");
  name.copy(bytes, head.length);
  return bytes;
}

/** Zero bytes up to the next multiple of four. */
export function cpioPadding(size: number): Uint8Array {
  return new Uint8Array(align4(size) - size);
}

/** The entry that ends an archive. */
export function cpioTrailer(): Uint8Array {
  return cpioHeader(TRAILER, 0, 0, 1, 0);
}

function align4(size: number): number {
  return Math.ceil(size / 4) * 4;
}

/** A newc archive: entries sorted by path, inodes counted from 1, owner 0:0, mtime 0. The same entries are the same bytes. */
export function writeCpio(entries: readonly CpioEntry[]): Uint8Array {
  const sorted = [...entries].sort((a, b) => Buffer.compare(Buffer.from(a.path), Buffer.from(b.path)));
  const parts: Uint8Array[] = [];
  sorted.forEach((entry, i) => {
    const data = entry.data;
    const mode = entry.mode | (data === undefined ? S_IFDIR : S_IFREG);
    parts.push(cpioHeader(entry.path, i + 1, mode, data === undefined ? 2 : 1, data?.byteLength ?? 0));
    if (data !== undefined) parts.push(data, cpioPadding(data.byteLength));
  });
  parts.push(cpioTrailer());
  return Buffer.concat(parts);
}
