import { toHex } from "@shelter/base";
import type { Certificate } from "../x509/certificate.ts";
import { DerReader, TAG } from "../x509/der.ts";
import { SnpError } from "./error.ts";
import { productOfName, type SnpProduct } from "./product.ts";
import type { SnpTcb } from "./tcb.ts";

/** What an endorsement key's certificate says about chip and TCB (VCEK certificate specification, section 3.1). */
export interface Vek {
  readonly certificate: Certificate;
  readonly kind: "VCEK" | "VLEK";
  readonly structVersion: number;
  /** As written, e.g. `Milan-B0`. */
  readonly productName: string;
  readonly product: SnpProduct | undefined;
  readonly tcb: SnpTcb;
  /** Chip of a VCEK: 64 bytes, 8 on Turin. */
  readonly hwId: Uint8Array | undefined;
  /** Operator of a VLEK. */
  readonly cspId: string | undefined;
}

const AMD = "1.3.6.1.4.1.3704.1";
const OID = {
  structVersion: `${AMD}.1`,
  productName: `${AMD}.2`,
  blSpl: `${AMD}.3.1`,
  teeSpl: `${AMD}.3.2`,
  snpSpl: `${AMD}.3.3`,
  spl4: `${AMD}.3.4`,
  spl5: `${AMD}.3.5`,
  spl6: `${AMD}.3.6`,
  spl7: `${AMD}.3.7`,
  ucodeSpl: `${AMD}.3.8`,
  fmcSpl: `${AMD}.3.9`,
  hwId: `${AMD}.4`,
  cspId: `${AMD}.5`,
} as const;

function bad(message: string): SnpError {
  return new SnpError("SNP_VEK_MALFORMED", `endorsement key certificate: ${message}`);
}

function extensionValue(certificate: Certificate, oid: string): Uint8Array | undefined {
  return certificate.extensions.get(oid)?.value;
}

function ia5(certificate: Certificate, oid: string): string | undefined {
  const value = extensionValue(certificate, oid);
  if (value === undefined) return undefined;
  const reader = new DerReader(value, `extension ${oid}`);
  const text = reader.next(TAG.ia5String).content;
  reader.end();
  return Buffer.from(text).toString("latin1");
}

function integer(certificate: Certificate, oid: string): number | undefined {
  const value = extensionValue(certificate, oid);
  if (value === undefined) return undefined;
  const reader = new DerReader(value, `extension ${oid}`);
  const n = reader.smallInteger();
  reader.end();
  return n;
}

function spl(certificate: Certificate, oid: string): number {
  const n = integer(certificate, oid);
  if (n === undefined) throw bad(`extension ${oid} is missing`);
  if (n > 255) throw bad(`extension ${oid} is ${n}`);
  return n;
}

/** hwID is written bare by AMD's key server and as an OCTET STRING by others. */
function readHwId(value: Uint8Array | undefined): Uint8Array | undefined {
  if (value === undefined || value.length === 64 || value.length === 8) return value;
  const reader = new DerReader(value, "extension hwID");
  const inner = reader.next(TAG.octetString).content;
  reader.end();
  if (inner.length !== 64 && inner.length !== 8) throw bad(`hwID of ${inner.length} bytes`);
  return inner;
}

/** Reads the AMD extensions of a VCEK or VLEK. */
export function readVek(certificate: Certificate): Vek {
  const name = certificate.subject.attributes.find((a) => a.oid === "2.5.4.3")?.value;
  const kind = name === "SEV-VCEK" ? "VCEK" : name === "SEV-VLEK" ? "VLEK" : undefined;
  if (kind === undefined) throw bad(`subject is ${certificate.subject.text}, neither SEV-VCEK nor SEV-VLEK`);
  const structVersion = integer(certificate, OID.structVersion);
  const productName = ia5(certificate, OID.productName);
  if (structVersion === undefined || productName === undefined) throw bad("no structVersion or productName");
  if (structVersion > 1) throw bad(`structVersion ${structVersion} is not known`);
  const fmc =
    extensionValue(certificate, OID.fmcSpl) === undefined ? undefined : spl(certificate, OID.fmcSpl);
  for (const oid of [OID.spl4, OID.spl5, OID.spl6, OID.spl7]) {
    const n = integer(certificate, oid) ?? 0;
    if (n !== 0) throw bad(`reserved extension ${oid} is ${n}`);
  }
  // A VLEK is an operator's, not a chip's.
  const hwId = kind === "VLEK" ? undefined : readHwId(extensionValue(certificate, OID.hwId));
  if (kind === "VCEK" && hwId === undefined) throw bad("a VCEK without hwID");
  return {
    certificate,
    kind,
    structVersion,
    productName,
    product: productOfName(productName),
    tcb: {
      ...(fmc === undefined ? {} : { fmc }),
      bootloader: spl(certificate, OID.blSpl),
      tee: spl(certificate, OID.teeSpl),
      snp: spl(certificate, OID.snpSpl),
      microcode: spl(certificate, OID.ucodeSpl),
    },
    hwId,
    cspId: ia5(certificate, OID.cspId),
  };
}

/** Whether a report's CHIP_ID names the chip of a hwID: Turin's 8 bytes stand at its start, then zeros. */
export function chipIdMatches(chipId: Uint8Array, hwId: Uint8Array): boolean {
  return toHex(chipId) === toHex(hwId).padEnd(128, "0");
}
