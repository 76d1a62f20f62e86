// As much OpenPGP (RFC 4880) as the vectors of rnp and of draft-ribose-openpgp-sca need: packets, version 4 keys and
// signatures, session keys, CFB with its modification code. Nothing here is used outside these tests.
import { createHash } from "node:crypto";
import { sm4Decrypt } from "../src/index.ts";

/** One packet. */
export interface Packet {
  readonly tag: number;
  readonly body: Buffer;
}

/** Bytes of an armoured file, without its checksum. */
export function armoured(text: string): Buffer {
  const [, body = ""] =
    /-----BEGIN PGP [A-Z ]+-----\r?\n(?:[^\n]+: [^\n]*\n)*\r?\n?([\s\S]*?)\r?\n=/.exec(text) ?? [];
  return Buffer.from(body.replaceAll(/\s/g, ""), "base64");
}

/** Packets of a file, old and new headers. */
export function packets(bytes: Buffer): Packet[] {
  const out: Packet[] = [];
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at++] ?? 0;
    let length: number;
    if ((first & 0x40) !== 0) {
      const a = bytes[at++] ?? 0;
      if (a < 192) length = a;
      else if (a < 224) length = ((a - 192) << 8) + (bytes[at++] ?? 0) + 192;
      else throw new Error("no partial or long bodies in these vectors");
    } else {
      const octets = [1, 2, 4][first & 3] ?? 0;
      length = bytes.readUIntBE(at, octets);
      at += octets;
    }
    const tag = (first & 0x40) !== 0 ? first & 63 : (first >> 2) & 15;
    out.push({ tag, body: bytes.subarray(at, at + length) });
    at += length;
  }
  return out;
}

/** The number at an offset as bytes, and the offset behind it. */
export function mpi(bytes: Buffer, at: number): { readonly value: Buffer; readonly next: number } {
  const length = (bytes.readUInt16BE(at) + 7) >> 3;
  return { value: bytes.subarray(at + 2, at + 2 + length), next: at + 2 + length };
}

/** Public point of a key packet, and what follows it. */
export function keyPoint(body: Buffer): { readonly point: Buffer; readonly next: number } {
  const oidLength = body[6] ?? 0;
  const { value, next } = mpi(body, 7 + oidLength);
  return { point: value, next };
}

/** Private key of a secret key packet without a password. */
export function keySecret(body: Buffer): Buffer {
  const { next } = keyPoint(body);
  // An encryption key has its hash and cipher behind the point in some writers; a zero says: no password.
  const at = body.indexOf(0, next);
  const { value } = mpi(body, at + 1);
  return Buffer.concat([Buffer.alloc(32 - value.length), value]);
}

function framed(first: number, lengthBytes: 2 | 4, body: Buffer): Buffer {
  const head = Buffer.alloc(1 + lengthBytes);
  head[0] = first;
  head.writeUIntBE(body.length, 1, lengthBytes);
  return Buffer.concat([head, body]);
}

/** A key packet as signatures hash it. */
export function hashedKey(body: Buffer): Buffer {
  return framed(0x99, 2, body);
}

/** A user id packet as signatures hash it. */
export function hashedUserId(body: Buffer): Buffer {
  return framed(0xb4, 4, body);
}

/** A version 4 signature: what it adds to the data it hashes, and its two numbers as 64 bytes. */
export function signature(body: Buffer): {
  readonly type: number;
  readonly hash: number;
  readonly trailer: Buffer;
  readonly raw: Buffer;
} {
  const hashedLength = body.readUInt16BE(4);
  const hashed = body.subarray(0, 6 + hashedLength);
  const trailer = Buffer.alloc(6);
  trailer.set([4, 0xff]);
  trailer.writeUInt32BE(hashed.length, 2);
  const unhashed = 6 + hashedLength;
  const numbers = unhashed + 2 + body.readUInt16BE(unhashed) + 2;
  const r = mpi(body, numbers);
  const s = mpi(body, r.next);
  const pad = (b: Buffer): Buffer => Buffer.concat([Buffer.alloc(32 - b.length), b]);
  return {
    type: body[1] ?? 0,
    hash: body[3] ?? 0,
    trailer: Buffer.concat([hashed, trailer]),
    raw: Buffer.concat([pad(r.value), pad(s.value)]),
  };
}

/** Opens an integrity-protected packet under SM4; throws when its modification code does not match. */
export function openProtected(body: Buffer, key: Uint8Array): Packet[] {
  if (body[0] !== 1) throw new Error("not version 1");
  const plain = Buffer.from(sm4Decrypt("cfb", key, new Uint8Array(16), body.subarray(1)));
  const code = plain.subarray(plain.length - 20);
  const covered = plain.subarray(0, plain.length - 20);
  if (!createHash("sha1").update(covered).digest().equals(code))
    throw new Error("the modification code differs");
  return packets(plain.subarray(18, plain.length - 22));
}
