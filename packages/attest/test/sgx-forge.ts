import { createHash, type KeyObject, sign } from "node:crypto";
import type { DcapFiles } from "@shelter/attest";
import { certificate, crl, der, extension, int, oid, signer } from "./snp-forge.ts";

/** A whole DCAP platform under a root of our own, from which quotes can be made to measure. */

const SGX = "1.2.840.113741.1.13.1";

/** The time at which everything forged here is valid. */
export const AT: Date = new Date("2026-06-01T00:00:00Z");
const FROM = new Date("2026-05-15T00:00:00Z");
const TO = new Date("2026-06-14T00:00:00Z");

const rootSigner = signer("Intel SGX Root CA", "P-256");
const platformSigner = signer("Intel SGX PCK Platform CA", "P-256");
const pckSigner = signer("Intel SGX PCK Certificate", "P-256");
const tcbSigner = signer("Intel SGX TCB Signing", "P-256");
const attestationKey = signer("attestation key", "P-256");

export const rootCertificate: Uint8Array = certificate(rootSigner, rootSigner, { ca: true });
export const platformCertificate: Uint8Array = certificate(platformSigner, rootSigner, {
  ca: true,
  serial: 11,
});
const tcbCertificate = certificate(tcbSigner, rootSigner, { serial: 12 });

/** Certificates as PEM, in order. */
export function pem(...list: readonly Uint8Array[]): Uint8Array {
  const block = (c: Uint8Array): string =>
    `-----BEGIN CERTIFICATE-----\n${Buffer.from(c).toString("base64")}\n-----END CERTIFICATE-----\n`;
  return Buffer.from(list.map(block).join(""));
}

/** JSON with its parts open to change. */
export type Loose = Record<string, unknown>;

/** What may be chosen of a forged quote and its collateral. */
export interface ForgeOptions {
  readonly body?: "sgx" | "td10" | "td15";
  readonly version?: 3 | 4 | 5;
  readonly editBody?: (body: Uint8Array) => void;
  readonly editQe?: (report: Uint8Array) => void;
  readonly editTcbInfo?: (info: Loose) => void;
  readonly editQeIdentity?: (identity: Loose) => void;
  /** Changes the text of the TCB info before it is signed. */
  readonly editTcbText?: (text: string) => string;
  readonly components?: readonly number[];
  readonly pceSvn?: number;
  readonly revoked?: readonly number[];
  readonly rootRevoked?: readonly number[];
  /** Signs the QE report instead of the PCK. */
  readonly qeSigner?: KeyObject;
  readonly chain?: (pck: Uint8Array) => Uint8Array;
}

/** A forged quote and all that is needed to judge it. */
export interface Forged {
  readonly quote: Uint8Array;
  readonly collateral: DcapFiles;
  readonly root: Uint8Array;
  readonly at: Date;
}

const COMPONENTS = [5, 5, 2, 2, 3, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0] as const;

/** A PCK certificate for TCB components. */
export function pckCertificate(components: readonly number[] = COMPONENTS, pceSvn = 13): Uint8Array {
  const pair = (id: string, value: Uint8Array): Uint8Array => der(0x30, oid(id), value);
  const tcb = der(
    0x30,
    ...components.map((svn, i) => pair(`${SGX}.2.${i + 1}`, int(svn))),
    pair(`${SGX}.2.17`, int(pceSvn)),
    pair(`${SGX}.2.18`, der(0x04, Uint8Array.from(components))),
  );
  const value = der(
    0x30,
    pair(`${SGX}.1`, der(0x04, new Uint8Array(16).fill(9))),
    der(0x30, oid(`${SGX}.2`), tcb),
    pair(`${SGX}.3`, der(0x04, Uint8Array.of(0, 0))),
    pair(`${SGX}.4`, der(0x04, Buffer.from("00c0ffee0000", "hex"))),
    pair(`${SGX}.5`, der(0x0a, Uint8Array.of(1))),
  );
  return certificate(pckSigner, platformSigner, { serial: 21, extensions: [extension(SGX, value)] });
}

function p1363(data: Uint8Array, key: KeyObject): Uint8Array {
  return sign("sha256", data, { key, dsaEncoding: "ieee-p1363" });
}

function signedJson(member: string, text: string): Uint8Array {
  const signature = Buffer.from(p1363(Buffer.from(text), tcbSigner.privateKey)).toString("hex");
  return Buffer.from(`{"${member}":${text},"signature":"${signature}"}`);
}

function components(list: readonly number[]): Loose[] {
  return list.map((svn) => ({ svn }));
}

/** A level of TCB info. */
export function level(
  status: string,
  sgx: readonly number[],
  pcesvn: number,
  tdx?: readonly number[],
  advisoryIDs?: readonly string[],
): Loose {
  const fill = (list: readonly number[]): number[] => Array.from({ length: 16 }, (_, i) => list[i] ?? 0);
  return {
    tcb: {
      sgxtcbcomponents: components(fill(sgx)),
      pcesvn,
      ...(tdx === undefined ? {} : { tdxtcbcomponents: components(fill(tdx)) }),
    },
    tcbDate: "2025-01-01T00:00:00Z",
    tcbStatus: status,
    ...(advisoryIDs === undefined ? {} : { advisoryIDs }),
  };
}

/** A level of a module or quoting enclave. */
export function isvLevel(tcbStatus: string, isvsvn: number, advisoryIDs?: readonly string[]): Loose {
  return {
    tcb: { isvsvn },
    tcbDate: "2025-01-01T00:00:00Z",
    tcbStatus,
    ...(advisoryIDs === undefined ? {} : { advisoryIDs }),
  };
}

const WINDOW = { issueDate: "2026-05-15T00:00:00Z", nextUpdate: "2026-06-14T00:00:00Z" };
const MODULE = { mrsigner: "00".repeat(48), attributes: "00".repeat(8), attributesMask: "FF".repeat(8) };

function tcbInfoOf(tdx: boolean): Loose {
  return {
    id: tdx ? "TDX" : "SGX",
    version: 3,
    ...WINDOW,
    fmspc: "00C0FFEE0000",
    pceId: "0000",
    tcbType: 0,
    tcbEvaluationDataNumber: 17,
    ...(tdx
      ? {
          tdxModule: MODULE,
          tdxModuleIdentities: [
            {
              id: "TDX_01",
              ...MODULE,
              tcbLevels: [isvLevel("UpToDate", 4), isvLevel("OutOfDate", 2, ["SA-MODULE"])],
            },
          ],
        }
      : {}),
    tcbLevels: [
      level("UpToDate", COMPONENTS, 13, tdx ? [5, 0, 6] : undefined),
      level("OutOfDate", [3, 3, 1, 1, 1], 11, tdx ? [3, 0, 3] : undefined, ["SA-PLATFORM"]),
    ],
  };
}

function qeIdentityOf(tdx: boolean): Loose {
  return {
    id: tdx ? "TD_QE" : "QE",
    version: 2,
    ...WINDOW,
    tcbEvaluationDataNumber: 17,
    miscselect: "00000000",
    miscselectMask: "FFFFFFFF",
    attributes: `11${"00".repeat(15)}`,
    attributesMask: `FB${"FF".repeat(7)}${"00".repeat(8)}`,
    mrsigner: "8C".repeat(32),
    isvprodid: 2,
    tcbLevels: [isvLevel("UpToDate", 6), isvLevel("OutOfDate", 4, ["SA-QE"]), isvLevel("Revoked", 2)],
  };
}

function defaultBody(kind: "sgx" | "td10" | "td15"): Uint8Array {
  if (kind === "sgx") {
    const body = new Uint8Array(384);
    body.set([5], 48); // INIT, MODE64BIT
    return body;
  }
  const body = new Uint8Array(kind === "td10" ? 584 : 648);
  body.set([4, 1, 6], 0); // TEE_TCB_SVN
  body.set([0x10], 123); // SEPT_VE_DISABLE
  if (kind === "td15") body.set([4, 1, 6], 584);
  return body;
}

function u16(n: number): Uint8Array {
  return Uint8Array.of(n & 255, n >> 8);
}

function u32(n: number): Uint8Array {
  return Uint8Array.of(n & 255, (n >> 8) & 255, (n >> 16) & 255, n >>> 24);
}

function quoteOf(options: ForgeOptions, kind: "sgx" | "td10" | "td15", chain: Uint8Array): Uint8Array {
  const version = options.version ?? (kind === "sgx" ? 3 : kind === "td10" ? 4 : 5);
  const body = defaultBody(kind);
  options.editBody?.(body);
  const header = Buffer.concat([
    u16(version),
    u16(2),
    u32(kind === "sgx" ? 0 : 0x81),
    u32(0),
    Buffer.from("939a7233f79c4ca9940a0db3957f0607", "hex"),
    new Uint8Array(20),
  ]);
  const type = { sgx: 1, td10: 2, td15: 3 }[kind];
  const typed = version === 5 ? [u16(type), u32(body.length)] : [];
  const signed = Buffer.concat([header, ...typed, body]);
  const jwk = attestationKey.publicKey.export({ format: "jwk" });
  const key = Buffer.concat([Buffer.from(jwk.x ?? "", "base64url"), Buffer.from(jwk.y ?? "", "base64url")]);
  const authData = Uint8Array.from({ length: 32 }, (_, i) => i);
  const qe = new Uint8Array(384);
  qe.set([0x11], 48);
  qe.set(new Uint8Array(32).fill(0x8c), 128);
  qe.set(u16(2), 256);
  qe.set(u16(6), 258);
  qe.set(createHash("sha256").update(key).update(authData).digest(), 320);
  options.editQe?.(qe);
  const certification = Buffer.concat([
    qe,
    p1363(qe, options.qeSigner ?? pckSigner.privateKey),
    u16(authData.length),
    authData,
    u16(5),
    u32(chain.length),
    chain,
  ]);
  const data = Buffer.concat([
    p1363(signed, attestationKey.privateKey),
    key,
    ...(version === 3 ? [certification] : [u16(6), u32(certification.length), certification]),
  ]);
  return Buffer.concat([signed, u32(data.length), data]);
}

/** Makes a quote and collateral in which everything holds, but for what the options change. */
export function forge(options: ForgeOptions = {}): Forged {
  const kind = options.body ?? "sgx";
  const tdx = kind !== "sgx";
  const info = tcbInfoOf(tdx);
  options.editTcbInfo?.(info);
  const identity = qeIdentityOf(tdx);
  options.editQeIdentity?.(identity);
  const pck = pckCertificate(options.components, options.pceSvn);
  const chain = options.chain?.(pck) ?? pem(pck, platformCertificate, rootCertificate);
  const text = JSON.stringify(info);
  return {
    quote: quoteOf(options, kind, chain),
    collateral: {
      tcbInfo: signedJson("tcbInfo", options.editTcbText?.(text) ?? text),
      qeIdentity: signedJson("enclaveIdentity", JSON.stringify(identity)),
      tcbInfoChain: pem(tcbCertificate, rootCertificate),
      pckCrl: crl(platformSigner, options.revoked ?? [], FROM, TO),
      rootCrl: crl(rootSigner, options.rootRevoked ?? [], FROM, TO),
    },
    root: pem(rootCertificate),
    at: AT,
  };
}
