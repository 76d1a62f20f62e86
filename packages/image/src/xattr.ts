import { ImageError } from "./errors.ts";
import { MAX_XATTR_VALUE_BYTES } from "./limits.ts";
import { nameBytes, type RawName, showName } from "./name.ts";
import type { Xattrs } from "./tar/pax.ts";

/** Reads extended attributes of local files. */
export interface XattrReader {
  /** The attributes that belong to the file rather than to this host; undefined where it has none. */
  read(path: RawName): Xattrs | undefined;
  /** Why some are missing; empty where none are. */
  readonly notes: string[];
}

const ENODATA = 61;
const EOPNOTSUPP = 95;
const ERANGE = 34;

/** SELinux labels, IMA signatures and `trusted.*` (seen by root alone) are the host's, not the file's. */
function isKept(name: RawName): boolean {
  return name.startsWith("user.") || name === "security.capability";
}

type Call = (...args: unknown[]) => unknown;

/** Binds the C library's calls; a host without them reads none and says so. */
export async function openXattrs(): Promise<XattrReader> {
  let list: Call;
  let get: Call;
  let errnoOf: () => number;
  try {
    // loaded here, as only directories need it
    const koffi = await import("koffi");
    const libc = koffi.load("libc.so.6");
    list = libc.func("int64_t llistxattr(const uint8_t *path, _Out_ uint8_t *list, size_t size)") as Call;
    get = libc.func(
      "int64_t lgetxattr(const uint8_t *path, const char *name, _Out_ uint8_t *value, size_t size)",
    ) as Call;
    errnoOf = koffi.errno as () => number;
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    return { read: () => undefined, notes: [`extended attributes are not read: ${why}`] };
  }
  const names = Buffer.alloc(MAX_XATTR_VALUE_BYTES);
  const value = Buffer.alloc(MAX_XATTR_VALUE_BYTES);
  const notes: string[] = [];
  return {
    notes,
    read(path) {
      const at = Buffer.concat([nameBytes(path), Buffer.from([0])]);
      const length = Number(list(at, names, names.length));
      if (length < 0) {
        const errno = errnoOf();
        if (errno === EOPNOTSUPP) return undefined;
        throw failed(path, "the list of extended attributes", errno);
      }
      if (length === 0) return undefined;
      const found = new Map<RawName, Buffer>();
      for (const name of names.toString("latin1", 0, length).split("\0")) {
        if (!isKept(name)) continue;
        if (name.includes("=")) {
          notes.push(`extended attribute ${showName(name)} is left out: tar has no way to write its name`);
          continue;
        }
        const size = Number(get(at, name, value, value.length));
        if (size < 0) {
          const errno = errnoOf();
          if (errno === ENODATA) continue;
          throw failed(path, showName(name), errno);
        }
        found.set(name, Buffer.from(value.subarray(0, size)));
      }
      return found.size === 0 ? undefined : found;
    },
  };
}

function failed(path: RawName, what: string, errno: number): ImageError {
  const why = errno === ERANGE ? "too long" : `error ${errno}`;
  return new ImageError("SOURCE_NOT_FOUND", `cannot read ${what} of ${showName(path)}: ${why}`);
}
