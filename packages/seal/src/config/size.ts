const UNITS: Readonly<Record<string, number>> = { "": 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 };

/** Bytes of `256MiB`, `1GiB`, `512m` (as Docker: powers of 1024) or a plain number; undefined for anything else. */
export function parseSize(text: string): number | undefined {
  const match = /^([0-9]{1,15})(?:\.([0-9]{1,6}))?[ ]?(?:([kmgt])(?:i?b)?|b)?$/i.exec(text.trim());
  if (match === null) return undefined;
  const bytes = Number(`${match[1]}.${match[2] ?? "0"}`) * (UNITS[(match[3] ?? "").toLowerCase()] ?? 1);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** Bytes as a person writes them: `256MiB`. */
export function formatSize(bytes: number): string {
  for (const [unit, name] of [
    [2 ** 40, "TiB"],
    [2 ** 30, "GiB"],
    [2 ** 20, "MiB"],
    [2 ** 10, "KiB"],
  ] as const) {
    if (bytes >= unit && bytes % unit === 0) return `${bytes / unit}${name}`;
  }
  return `${bytes}`;
}
