/** Error numbers of Linux that a FUSE reply carries (`errno(3)`, x86 and generic). */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EIO: 5,
  EACCES: 13,
  EEXIST: 17,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  EROFS: 30,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  EBADF: 9,
  ESTALE: 116,
} as const;

/** A refusal of the file server itself, by errno. */
export class FuseRefusal extends Error {
  readonly errno: number;

  constructor(name: keyof typeof ERRNO) {
    super(name);
    this.errno = ERRNO[name];
  }
}

/** The errno of anything thrown; what is no system error is EIO. */
export function errnoOf(error: unknown): number {
  if (error instanceof FuseRefusal) return error.errno;
  const errno = (error as { errno?: unknown }).errno;
  return typeof errno === "number" && errno < 0 && errno > -4096 ? -errno : ERRNO.EIO;
}
