/** What flattening accepts at most; each value can be lowered or raised by the caller. */
export interface FlattenLimits {
  /** Bytes of all files of the finished tree, holes counted. */
  readonly treeBytes: number;
  /** Bytes one layer unpacks to. */
  readonly layerBytes: number;
  /** Entries of all layers together, whiteouts included. */
  readonly entries: number;
  /** Unpacked bytes per compressed byte, once a layer is past `RATIO_FLOOR`. */
  readonly ratio: number;
  /** Bytes of extended attributes, all layers together. */
  readonly xattrBytes: number;
}

const GIB = 2 ** 30;

/** Defaults of the limits that a caller may change. */
export const DEFAULT_LIMITS: FlattenLimits = {
  treeBytes: 64 * GIB, // four times the largest images in use (about 15 GiB); past it a disk fills for nothing
  layerBytes: 64 * GIB, // a layer cannot usefully be larger than the tree
  entries: 2_000_000, // about 400 bytes of memory each; the largest images in use have half a million
  ratio: 200, // real layers reach 2 to 20; gzip can do 1032, zstd over 10000
  xattrBytes: 16 * 2 ** 20, // they are held in memory; a capability is 20 bytes, so this is ample
};

/** Below this many unpacked bytes a layer's ratio is not judged: a small layer of zeros harms nobody. */
export const RATIO_FLOOR = 64 * 2 ** 20;

/** Layers of one image; Docker stops at 127. */
export const MAX_LAYERS = 512;

/** Bytes of an index, manifest or configuration (distribution-spec: registries need not take more than 4 MiB). */
export const MAX_DOCUMENT_BYTES = 4 * 2 ** 20;

/** Files of an outer archive (docker save, oci-archive): one per blob and a few more. */
export const MAX_ARCHIVE_MEMBERS = 16_384;

/** Bytes of a path: Linux takes 4096 with the NUL. */
export const MAX_PATH_BYTES = 4095;

/** Bytes of one path component: Linux and squashfs take 255. */
export const MAX_COMPONENT_BYTES = 255;

/** Components of a path: deeper trees break tools that recurse, and 4095 bytes could hold 2047. */
export const MAX_DEPTH = 256;

/** Bytes of a symlink target: Linux takes 4095. */
export const MAX_TARGET_BYTES = 4095;

/** Symlinks followed while resolving one path: Linux takes 40, containerd 255; real paths need a handful. */
export const MAX_SYMLINKS = 40;

/** Bytes of one PAX header or GNU long name; xattr values of 64 KiB must fit, several of them. */
export const MAX_EXTENSION_BYTES = 2 ** 20;

/** Bytes of one xattr name and one xattr value: Linux's XATTR_NAME_MAX and XATTR_SIZE_MAX. */
export const MAX_XATTR_NAME_BYTES = 255;
export const MAX_XATTR_VALUE_BYTES = 65_536;

/** Pieces of a sparse file: the map is held while the file is copied. */
export const MAX_SPARSE_PIECES = 65_536;

/** Different user and group ids together: squashfs has a table of 65536 (16-bit count, so one less). */
export const MAX_IDS = 65_535;

/** Largest user or group id: the one above means "none" to the kernel. */
export const MAX_ID = 2 ** 32 - 2;

/** Device numbers as squashfs stores them: 12 bits of major, 20 of minor. */
export const MAX_DEVICE_MAJOR = 2 ** 12 - 1;
export const MAX_DEVICE_MINOR = 2 ** 20 - 1;

/** Bytes a whole archive may follow its end marker with, all zero: tar pads to its record size, at most 1 MiB or so. */
export const MAX_END_PADDING = 16 * 2 ** 20;
