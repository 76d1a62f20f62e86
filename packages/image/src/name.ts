/**
 * Names in archives and directories are bytes, not text. They are carried as strings of one character per
 * byte (latin1), so that comparing, splitting and writing them back changes nothing.
 */
export type RawName = string;

/** The raw name of ordinary text: its UTF-8 bytes. */
export function rawName(text: string): RawName {
  return Buffer.from(text, "utf8").toString("latin1");
}

/** The bytes of a raw name. */
export function nameBytes(raw: RawName): Buffer {
  return Buffer.from(raw, "latin1");
}

/** The text of a raw name, for people: broken UTF-8 shows as replacement characters. */
export function nameText(raw: RawName): string {
  return Buffer.from(raw, "latin1").toString("utf8");
}

/** A raw name as messages show it: quoted, control characters escaped, cut where it gets silly. */
export function showName(raw: RawName): string {
  const text = nameText(raw);
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

/** Orders raw names by their bytes, the same on any machine and in any locale. */
export function compareNames(a: RawName, b: RawName): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
