import { createHash, type KeyObject, randomBytes, sign } from "node:crypto";

// A small certificate authority for tests: DER written by hand, checked against `openssl verify` once.

const der = (tag: number, ...content: Uint8Array[]): Buffer => {
  const body = Buffer.concat(content);
  const n = body.byteLength;
  const length = n < 128 ? [n] : n < 256 ? [0x81, n] : [0x82, n >> 8, n & 0xff];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
};
const sequence = (...content: Uint8Array[]) => der(0x30, ...content);
const set = (...content: Uint8Array[]) => der(0x31, ...content);
const octets = (content: Uint8Array) => der(0x04, content);
const bits = (content: Uint8Array, unused = 0) => der(0x03, Buffer.from([unused]), content);
const yes = der(0x01, Buffer.from([0xff]));
const oid = (text: string): Buffer => {
  const [a = 0, b = 0, ...rest] = text.split(".").map(Number);
  const bytes = [a * 40 + b];
  for (const arc of rest) {
    const groups = [arc & 0x7f];
    for (let left = arc >>> 7; left > 0; left >>>= 7) groups.unshift((left & 0x7f) | 0x80);
    bytes.push(...groups);
  }
  return der(0x06, Buffer.from(bytes));
};
const time = (date: Date) => der(0x18, Buffer.from(date.toISOString().replace(/[-:T]|\.\d+/g, "")));
const name = (...attributes: [string, string][]) =>
  sequence(...attributes.map(([type, value]) => set(sequence(oid(type), der(0x0c, Buffer.from(value))))));
const extension = (id: string, critical: boolean, value: Uint8Array) =>
  sequence(oid(id), ...(critical ? [yes] : []), octets(value));

export interface Issuer {
  readonly subject: Buffer;
  readonly key: KeyObject;
  readonly public: KeyObject;
}

export function subjectName(commonName: string): Buffer {
  return name(["2.5.4.3", commonName]);
}

const keyId = (key: KeyObject) =>
  createHash("sha1")
    .update(key.export({ format: "der", type: "spki" }))
    .digest();

export interface CertificateForm {
  readonly subject: Buffer;
  readonly public: KeyObject;
  readonly issuer: Issuer;
  readonly from: Date;
  readonly to: Date;
  /** A CA, the endorsement key of a TPM, or a server on 127.0.0.1. */
  readonly kind: "ca" | "ek" | "tls";
}

/** Issues an X.509 v3 certificate signed with ECDSA and SHA-256. */
export function issue(form: CertificateForm): Buffer {
  const algorithm = sequence(oid("1.2.840.10045.4.3.2"));
  const tpm = name(
    ["2.23.133.2.1", "id:54455354"],
    ["2.23.133.2.2", "soft"],
    ["2.23.133.2.3", "id:00010000"],
  );
  const keyUsage =
    form.kind === "ca"
      ? bits(Buffer.from([0x06]), 1) // keyCertSign, cRLSign
      : form.kind === "tls"
        ? bits(Buffer.from([0x80]), 7) // digitalSignature
        : form.public.asymmetricKeyType === "ec"
          ? bits(Buffer.from([0x08]), 3) // keyAgreement
          : bits(Buffer.from([0x20]), 5); // keyEncipherment
  const extensions = [
    extension("2.5.29.15", true, keyUsage),
    extension("2.5.29.19", true, form.kind === "ca" ? sequence(yes) : sequence()),
    extension("2.5.29.14", false, octets(keyId(form.public))),
    extension("2.5.29.35", false, sequence(der(0x80, keyId(form.issuer.public)))),
    ...(form.kind === "tls"
      ? [extension("2.5.29.17", false, sequence(der(0x87, Buffer.from([127, 0, 0, 1]))))]
      : []),
    ...(form.kind === "ek"
      ? [
          extension("2.5.29.17", true, sequence(der(0xa4, tpm))),
          extension("2.5.29.37", false, sequence(oid("2.23.133.8.1"))),
        ]
      : []),
  ];
  const serial = randomBytes(16);
  serial[0] = (serial[0] ?? 0) & 0x7f || 1;
  const body = sequence(
    der(0xa0, der(0x02, Buffer.from([2]))),
    der(0x02, serial),
    algorithm,
    form.issuer.subject,
    sequence(time(form.from), time(form.to)),
    form.kind === "ek" ? name() : form.subject,
    form.public.export({ format: "der", type: "spki" }),
    der(0xa3, sequence(...extensions)),
  );
  const signature = sign("sha256", body, form.issuer.key);
  return sequence(body, algorithm, bits(signature));
}
