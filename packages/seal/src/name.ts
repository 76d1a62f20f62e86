import { type Digest, hexOf } from "@shelter/base";
import { SealError } from "./errors.ts";

// The distribution reference grammar, as Docker reads it, without digests and without a registry's case rules
// for hosts: lower-case path components joined by slashes, then a tag.
const COMPONENT = "[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*";
const HOST = "[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?";
const NAME = new RegExp(`^(?:${HOST}(?:\\.${HOST})*(?::[0-9]+)?/)?${COMPONENT}(?:/${COMPONENT})*$`);
const TAG = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$/;
const MAX_NAME_LENGTH = 255;

/** `NAME[:TAG]` as `NAME:TAG`, `latest` when no tag is given. */
export function parseName(text: string): string {
  const slash = text.lastIndexOf("/");
  const colon = text.indexOf(":", slash + 1);
  const name = colon < 0 ? text : text.slice(0, colon);
  const tag = colon < 0 ? "latest" : text.slice(colon + 1);
  if (name.length > MAX_NAME_LENGTH || !NAME.test(name)) {
    throw new SealError(
      "NAME_MALFORMED",
      "usage",
      `${JSON.stringify(text.slice(0, 300))} is not an image name`,
      {
        hint: "names are lower case letters and digits, joined by . _ - or /, as in demo or team/demo:1.2",
      },
    );
  }
  if (!TAG.test(tag)) {
    throw new SealError(
      "NAME_MALFORMED",
      "usage",
      `${JSON.stringify(tag.slice(0, 200))} is not an image tag`,
      {
        hint: "tags are letters, digits, _ . - and at most 128 characters",
      },
    );
  }
  return `${name}:${tag}`;
}

/** The hex prefix if the text may be the beginning of an identity, `sha256:` or not; else undefined. */
export function identityPrefix(text: string): string | undefined {
  const hex = text.startsWith("sha256:") ? text.slice("sha256:".length) : text;
  return /^[0-9a-f]{4,64}$/.test(hex) ? hex : undefined;
}

/** The short form of an identity for tables. */
export function shortIdentity(identity: Digest): string {
  return hexOf(identity).slice(0, 12);
}
