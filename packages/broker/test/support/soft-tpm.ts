import {
  constants,
  createDecipheriv,
  createHash,
  createHmac,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  type KeyObject,
  privateDecrypt,
  sign,
} from "node:crypto";
import { type Issuer, issue, subjectName } from "./certificates.ts";

// A TPM in software, written from the TPM 2.0 specification (parts 1 and 2) and sharing no code with
// the verifier: a restricted RSA attestation key, an endorsement key with a certificate, PCRs that
// are extended event by event, quotes, and credential activation.

const u16 = (n: number) => Buffer.from([n >> 8, n & 0xff]);
const u32 = (n: number) => Buffer.from([(n >>> 24) & 0xff, (n >>> 16) & 0xff, (n >>> 8) & 0xff, n & 0xff]);
const u32le = (n: number) => Buffer.from(u32(n)).reverse();
const u16le = (n: number) => Buffer.from(u16(n)).reverse();
const sized = (bytes: Uint8Array) => Buffer.concat([u16(bytes.byteLength), bytes]);
const sha256 = (...parts: Uint8Array[]) => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest();
};

const ALG = { sha256: 0x000b, rsa: 0x0001, rsassa: 0x0014, null: 0x0010 };
// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign
const AK_ATTRIBUTES = 0x0005_0072;

export interface BootEvent {
  readonly pcr: number;
  readonly type: number;
  /** Measured; the digest of `data` unless given. */
  readonly digest?: Buffer;
  readonly data: Buffer;
}

/** What a small measured boot extends, by the parts a test wants to change. */
export function bootEvents(
  parts: { firmware?: string; kernel?: string; initrd?: string; cmdline?: string } = {},
): BootEvent[] {
  const text = (value: string) => Buffer.from(value, "utf16le");
  const kernel = sha256(Buffer.from(parts.kernel ?? "kernel"));
  const initrd = sha256(Buffer.from(parts.initrd ?? "initrd"));
  const separators = [0, 1, 2, 3, 4, 5, 6, 7].map((pcr) => ({ pcr, type: 0x4, data: Buffer.alloc(4) }));
  return [
    { pcr: 0, type: 0x8, data: text(parts.firmware ?? "firmware 1") },
    { pcr: 7, type: 0x8000_0001, data: variable("SecureBoot", Buffer.from([0])) },
    ...separators,
    { pcr: 4, type: 0x8000_0003, digest: kernel, data: imageLoad() },
    { pcr: 9, type: 0x6, data: tagged(text(parts.cmdline ?? "quiet")) },
    { pcr: 9, type: 0x6, digest: initrd, data: tagged(Buffer.from("Linux initrd\0")) },
  ];
}

/** UEFI_VARIABLE_DATA of a variable of the EFI global namespace. */
function variable(name: string, value: Buffer): Buffer {
  const guid = Buffer.from("61dfe48bca93d211aa0d00e098032b8c", "hex");
  const u64le = (n: number) => Buffer.concat([u32le(n), u32le(0)]);
  return Buffer.concat([
    guid,
    u64le(name.length),
    u64le(value.byteLength),
    Buffer.from(name, "utf16le"),
    value,
  ]);
}

/** UEFI_IMAGE_LOAD_EVENT without a device path. */
function imageLoad(): Buffer {
  return Buffer.alloc(32);
}

/** TCG_PCClientTaggedEvent as Linux's EFI stub writes it. */
function tagged(content: Buffer): Buffer {
  return Buffer.concat([u32le(0x8f3b_22ec), u32le(content.byteLength), content]);
}

export interface TpmOptions {
  readonly ca: Issuer;
  readonly ekKind?: "rsa" | "ec";
  readonly events?: readonly BootEvent[];
  readonly from?: Date;
  readonly to?: Date;
  readonly akAttributes?: number;
}

export class SoftTpm {
  readonly ak: { publicKey: KeyObject; privateKey: KeyObject };
  readonly ek: { publicKey: KeyObject; privateKey: KeyObject };
  readonly ekCertificate: Buffer;
  readonly akTpmPublic: Buffer;
  readonly events: BootEvent[];
  readonly pcrs: Buffer[];

  constructor(options: TpmOptions) {
    this.ak = rsaPair();
    this.ek = options.ekKind === "rsa" ? rsaPair() : generateKeyPairSync("ec", { namedCurve: "P-256" });
    this.ekCertificate = issue({
      subject: subjectName(""),
      public: this.ek.publicKey,
      issuer: options.ca,
      from: options.from ?? new Date("2026-01-01T00:00:00Z"),
      to: options.to ?? new Date("2036-01-01T00:00:00Z"),
      kind: "ek",
    });
    this.akTpmPublic = sized(publicArea(this.ak.publicKey, options.akAttributes ?? AK_ATTRIBUTES));
    this.pcrs = Array.from({ length: 24 }, (_, i) => Buffer.alloc(32, i >= 17 && i <= 22 ? 0xff : 0));
    this.events = [...(options.events ?? bootEvents())];
    for (const event of this.events) this.extend(event.pcr, digestOf(event));
  }

  /** TPM2_PCR_Extend in the SHA-256 bank. */
  extend(pcr: number, digest: Buffer): void {
    this.pcrs[pcr] = sha256(this.pcrs[pcr] ?? Buffer.alloc(32), digest);
  }

  get akSpki(): Buffer {
    return this.ak.publicKey.export({ format: "der", type: "spki" });
  }

  /** TPM2B_NAME content of the attestation key. */
  get akName(): Buffer {
    return Buffer.concat([u16(ALG.sha256), sha256(this.akTpmPublic.subarray(2))]);
  }

  eventLog(events: readonly BootEvent[] = this.events): Buffer {
    return eventLog(events);
  }

  /** TPM2_Quote over the given PCRs of the SHA-256 bank, RSASSA with SHA-256. */
  quote(
    extraData: Buffer,
    selected: readonly number[] = Array.from({ length: 24 }, (_, i) => i),
  ): { message: Buffer; signature: Buffer } {
    const bitmap = Buffer.alloc(3);
    for (const pcr of selected) bitmap[pcr >> 3] = (bitmap[pcr >> 3] ?? 0) | (1 << (pcr & 7));
    const pcrDigest = sha256(
      ...[...selected].sort((a, b) => a - b).map((pcr) => this.pcrs[pcr] ?? Buffer.alloc(32)),
    );
    const message = Buffer.concat([
      u32(0xff54_4347),
      u16(0x8018),
      sized(Buffer.concat([u16(ALG.sha256), sha256(Buffer.from("parent"), this.akName)])),
      sized(extraData),
      Buffer.alloc(8),
      u32(1),
      u32(0),
      Buffer.from([1]),
      Buffer.alloc(8),
      u32(1),
      u16(ALG.sha256),
      Buffer.from([3]),
      bitmap,
      sized(pcrDigest),
    ]);
    const raw = sign("sha256", message, { key: this.ak.privateKey, padding: constants.RSA_PKCS1_PADDING });
    return { message, signature: Buffer.concat([u16(ALG.rsassa), u16(ALG.sha256), sized(raw)]) };
  }

  /** TPM2_ActivateCredential: the secret, or an error when the blob is for another key or another TPM. */
  activate(credentialBlob: Buffer, encryptedSecret: Buffer): Buffer {
    const seed = this.#seed(unsized(encryptedSecret));
    const blob = unsized(credentialBlob);
    const integrity = unsized(blob);
    const identity = blob.subarray(2 + integrity.byteLength);
    const hmacKey = kdfa(seed, "INTEGRITY", Buffer.alloc(0), 256);
    const expected = createHmac("sha256", hmacKey).update(identity).update(this.akName).digest();
    if (!expected.equals(integrity)) throw new Error("TPM_RC_INTEGRITY");
    const key = kdfa(seed, "STORAGE", this.akName, 128);
    const decipher = createDecipheriv("aes-128-cfb", key, Buffer.alloc(16));
    return unsized(Buffer.concat([decipher.update(identity), decipher.final()]));
  }

  #seed(encrypted: Buffer): Buffer {
    if (this.ek.privateKey.asymmetricKeyType === "rsa") {
      return privateDecrypt(
        {
          key: this.ek.privateKey,
          padding: constants.RSA_PKCS1_OAEP_PADDING,
          oaepHash: "sha256",
          oaepLabel: Buffer.from("IDENTITY\0"),
        },
        encrypted,
      );
    }
    const x = unsized(encrypted);
    const y = unsized(encrypted.subarray(2 + x.byteLength));
    const peer = createPublicKey({
      key: { kty: "EC", crv: "P-256", x: x.toString("base64url"), y: y.toString("base64url") },
      format: "jwk",
    });
    const z = diffieHellman({ privateKey: this.ek.privateKey, publicKey: peer });
    const own = Buffer.from(this.ek.publicKey.export({ format: "jwk" }).x ?? "", "base64url");
    // KDFe, part 1 section 11.4.10.3; one round is enough for 256 bits.
    return sha256(u32(1), z, Buffer.from("IDENTITY\0"), x, own);
  }
}

function rsaPair(): { publicKey: KeyObject; privateKey: KeyObject } {
  // Generating RSA keys takes longer than everything else in these tests together.
  const next = RSA_POOL.shift() ?? generateKeyPairSync("rsa", { modulusLength: 2048 });
  RSA_POOL.push(next);
  return next;
}
const RSA_POOL: { publicKey: KeyObject; privateKey: KeyObject }[] = Array.from({ length: 4 }, () =>
  generateKeyPairSync("rsa", { modulusLength: 2048 }),
);

/** What is extended for an event. */
export function digestOf(event: BootEvent): Buffer {
  return event.digest ?? sha256(event.data);
}

function unsized(bytes: Buffer): Buffer {
  return bytes.subarray(2, 2 + bytes.readUInt16BE(0));
}

function kdfa(key: Buffer, label: string, context: Buffer, size: number): Buffer {
  return createHmac("sha256", key)
    .update(Buffer.concat([u32(1), Buffer.from(`${label}\0`), context, u32(size)]))
    .digest()
    .subarray(0, size / 8);
}

/** TPMT_PUBLIC of a restricted RSA-2048 signing key (RSASSA, SHA-256). */
function publicArea(key: KeyObject, attributes: number): Buffer {
  const modulus = Buffer.from(key.export({ format: "jwk" }).n ?? "", "base64url");
  return Buffer.concat([
    u16(ALG.rsa),
    u16(ALG.sha256),
    u32(attributes),
    sized(Buffer.alloc(0)),
    u16(ALG.null),
    u16(ALG.rsassa),
    u16(ALG.sha256),
    u16(2048),
    u32(0),
    sized(modulus),
  ]);
}

/** Crypto-agile event log with a SHA-256 bank (TCG PC Client Platform Firmware Profile, section 10). */
export function eventLog(events: readonly BootEvent[]): Buffer {
  const specId = Buffer.concat([
    Buffer.from("Spec ID Event03\0"),
    u32le(0),
    Buffer.from([0, 2, 105, 2]),
    u32le(1),
    u16le(ALG.sha256),
    u16le(32),
    Buffer.from([0]),
  ]);
  const header = Buffer.concat([u32le(0), u32le(3), Buffer.alloc(20), u32le(specId.byteLength), specId]);
  return Buffer.concat([
    header,
    ...events.map((event) =>
      Buffer.concat([
        u32le(event.pcr),
        u32le(event.type),
        u32le(1),
        u16le(ALG.sha256),
        digestOf(event),
        u32le(event.data.byteLength),
        event.data,
      ]),
    ),
  ]);
}
