import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";

/** Test certificates, written byte by byte so that the parser under test is not its own oracle. */

/** One DER element. */
export function der(tag: number, ...parts: readonly Uint8Array[]): Uint8Array {
  const content = Buffer.concat(parts);
  const n = content.length;
  const length =
    n < 128
      ? [n]
      : n < 256
        ? [0x81, n]
        : n < 65536
          ? [0x82, n >> 8, n & 255]
          : [0x83, n >> 16, (n >> 8) & 255, n & 255];
  return Buffer.concat([Uint8Array.of(tag, ...length), content]);
}

/** An OBJECT IDENTIFIER. */
export function oid(dotted: string): Uint8Array {
  const [a = 0, b = 0, ...rest] = dotted.split(".").map(Number);
  const arc = (n: number): number[] => {
    const out = [n & 0x7f];
    for (let m = Math.floor(n / 128); m > 0; m = Math.floor(m / 128)) out.unshift((m & 0x7f) | 0x80);
    return out;
  };
  return der(0x06, Uint8Array.from([a * 40 + b, ...rest].flatMap((n, i) => (i === 0 ? [n] : arc(n)))));
}

/** A non-negative INTEGER. */
export function int(n: number): Uint8Array {
  const bytes = [n & 255];
  for (let m = Math.floor(n / 256); m > 0; m = Math.floor(m / 256)) bytes.unshift(m & 255);
  if ((bytes[0] ?? 0) >= 128) bytes.unshift(0);
  return der(0x02, Uint8Array.from(bytes));
}

/** A Name of one commonName. */
export function name(commonName: string): Uint8Array {
  return der(0x30, der(0x31, der(0x30, oid("2.5.4.3"), der(0x0c, Buffer.from(commonName)))));
}

function time(date: Date): Uint8Array {
  return der(
    0x18,
    Buffer.from(
      date
        .toISOString()
        .replace(/[-:T]/g, "")
        .replace(/\.\d+Z/, "Z"),
    ),
  );
}

/** A key pair with the algorithm that it signs with. */
export interface Signer {
  readonly commonName: string;
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
  readonly hash: "sha256" | "sha384";
}

/** A fresh ECDSA key under a name. */
export function signer(commonName: string, curve: "P-256" | "P-384"): Signer {
  const pair = generateKeyPairSync("ec", { namedCurve: curve });
  return { commonName, ...pair, hash: curve === "P-256" ? "sha256" : "sha384" };
}

function algorithm(by: Signer): Uint8Array {
  return der(0x30, oid(by.hash === "sha256" ? "1.2.840.10045.4.3.2" : "1.2.840.10045.4.3.3"));
}

function signed(tbs: Uint8Array, by: Signer): Uint8Array {
  const signature = sign(by.hash, tbs, by.privateKey);
  return der(0x30, tbs, algorithm(by), der(0x03, Uint8Array.of(0), signature));
}

/** An extension as it stands in a certificate. */
export function extension(id: string, value: Uint8Array, critical = false): Uint8Array {
  return der(0x30, oid(id), ...(critical ? [der(0x01, Uint8Array.of(0xff))] : []), der(0x04, value));
}

/** What may be chosen of a test certificate. */
export interface CertificateOptions {
  readonly ca?: boolean;
  readonly extensions?: readonly Uint8Array[];
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly serial?: number;
  /** Raw Name to write instead of the names of the signers. */
  readonly issuerName?: Uint8Array;
}

/** A certificate for `subject` by `issuer`, DER. */
export function certificate(subject: Signer, issuer: Signer, options: CertificateOptions = {}): Uint8Array {
  const extensions = [...(options.extensions ?? [])];
  if (options.ca) extensions.push(extension("2.5.29.19", der(0x30, der(0x01, Uint8Array.of(0xff))), true));
  const tbs = der(
    0x30,
    der(0xa0, int(2)),
    int(options.serial ?? 7),
    algorithm(issuer),
    options.issuerName ?? name(issuer.commonName),
    der(
      0x30,
      time(options.notBefore ?? new Date("2025-01-01T00:00:00Z")),
      time(options.notAfter ?? new Date("2035-01-01T00:00:00Z")),
    ),
    name(subject.commonName),
    subject.publicKey.export({ type: "spki", format: "der" }),
    ...(extensions.length === 0 ? [] : [der(0xa3, der(0x30, ...extensions))]),
  );
  return signed(tbs, issuer);
}

/** A CRL of `issuer` over serial numbers, DER. */
export function crl(issuer: Signer, revoked: readonly number[], from: Date, to: Date): Uint8Array {
  const entries = revoked.map((serial) => der(0x30, int(serial), time(from)));
  const tbs = der(
    0x30,
    int(1),
    algorithm(issuer),
    name(issuer.commonName),
    time(from),
    time(to),
    ...(entries.length === 0 ? [] : [der(0x30, ...entries)]),
    der(0xa0, der(0x30, extension("2.5.29.20", int(1)))),
  );
  return signed(tbs, issuer);
}
