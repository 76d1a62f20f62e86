import { toHex } from "@shelter/base";
import { DerReader, type DerValue, TAG } from "./der.ts";
import { X509Error } from "./error.ts";

/** One attribute of a distinguished name. */
export interface NameAttribute {
  readonly oid: string;
  readonly value: string;
}

/** A distinguished name: its DER, its attributes in order. */
export interface Name {
  readonly raw: Uint8Array;
  readonly attributes: readonly NameAttribute[];
  /** `CN=…, O=…`, for people. */
  readonly text: string;
  /** Form to compare by (RFC 5280 section 7.1): string type, case and white space do not count. */
  readonly key: string;
}

const SHORT: Readonly<Record<string, string>> = {
  "2.5.4.3": "CN",
  "2.5.4.5": "serialNumber",
  "2.5.4.6": "C",
  "2.5.4.7": "L",
  "2.5.4.8": "ST",
  "2.5.4.10": "O",
  "2.5.4.11": "OU",
  "2.23.133.2.1": "tpmManufacturer",
  "2.23.133.2.2": "tpmModel",
  "2.23.133.2.3": "tpmVersion",
};

const MAX_ATTRIBUTES = 64;

function text(value: DerValue): string {
  const { content } = value;
  const buffer = Buffer.from(content.buffer, content.byteOffset, content.byteLength);
  switch (value.tag) {
    case TAG.utf8String:
      return buffer.toString("utf8");
    case TAG.printableString:
    case TAG.ia5String:
    case TAG.t61String:
      return buffer.toString("latin1");
    case TAG.bmpString:
      return content.length % 2 === 0
        ? Buffer.from(buffer).swap16().toString("utf16le")
        : `#${toHex(content)}`;
    default:
      return `#${toHex(value.raw)}`;
  }
}

/** Reads a whole Name (RFC 5280 section 4.1.2.4). */
export function readName(value: DerValue, what: string): Name {
  const attributes: NameAttribute[] = [];
  const groups: string[] = [];
  const sequence = new DerReader(value.content, what, 2);
  while (sequence.more) {
    const set = sequence.enter(TAG.set);
    const group: string[] = [];
    while (set.more) {
      const pair = set.enter(TAG.sequence);
      const attribute = { oid: pair.oid(), value: text(pair.next()) };
      pair.end();
      attributes.push(attribute);
      if (attributes.length > MAX_ATTRIBUTES) {
        throw new X509Error(
          "CERTIFICATE_MALFORMED",
          `${what}: a name of more than ${MAX_ATTRIBUTES} attributes`,
        );
      }
      group.push(JSON.stringify([attribute.oid, attribute.value.trim().replace(/\s+/g, " ").toLowerCase()]));
    }
    groups.push(group.sort().join("+"));
  }
  return {
    raw: value.raw,
    attributes,
    text: attributes.map((a) => `${SHORT[a.oid] ?? a.oid}=${a.value}`).join(", "),
    key: groups.join(","),
  };
}
