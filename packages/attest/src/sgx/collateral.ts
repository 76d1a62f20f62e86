import { type Certificate, type Crl, parseCertificates, parseCrl } from "../x509/index.ts";
import { parseQeIdentity, type QeIdentity } from "./qe-identity.ts";
import { parseTcbInfo, type TcbInfo } from "./tcb-info.ts";

/** Collateral as files, in the forms Intel's provisioning service gives them. */
export interface DcapFiles {
  /** JSON, with its signature. */
  readonly tcbInfo?: Uint8Array;
  readonly qeIdentity?: Uint8Array;
  /** Issuer chain of the TCB info; also used for the QE identity when that has none of its own. */
  readonly tcbInfoChain?: Uint8Array;
  readonly qeIdentityChain?: Uint8Array;
  /** PCK certificate and its chain, for quotes that do not carry them. */
  readonly pckChain?: Uint8Array;
  readonly pckCrl?: Uint8Array;
  readonly pckCrlChain?: Uint8Array;
  readonly rootCrl?: Uint8Array;
}

/** Collateral parsed once, to judge many quotes with; nothing of it is believed yet. */
export class DcapCollateral {
  readonly tcbInfo: TcbInfo | undefined;
  readonly qeIdentity: QeIdentity | undefined;
  readonly tcbInfoChain: readonly Certificate[];
  readonly qeIdentityChain: readonly Certificate[];
  readonly pckChain: readonly Certificate[];
  readonly pckCrlChain: readonly Certificate[];
  readonly pckCrl: Crl | undefined;
  readonly rootCrl: Crl | undefined;

  constructor(files: DcapFiles) {
    const chain = (bytes: Uint8Array | undefined, what: string): readonly Certificate[] =>
      bytes === undefined ? [] : parseCertificates(bytes, what);
    this.tcbInfo = files.tcbInfo && parseTcbInfo(files.tcbInfo);
    this.qeIdentity = files.qeIdentity && parseQeIdentity(files.qeIdentity);
    this.tcbInfoChain = chain(files.tcbInfoChain, "tcb info chain");
    this.qeIdentityChain = chain(files.qeIdentityChain, "qe identity chain");
    this.pckChain = chain(files.pckChain, "pck chain");
    this.pckCrlChain = chain(files.pckCrlChain, "pck crl chain");
    this.pckCrl = files.pckCrl && parseCrl(files.pckCrl, "pck crl");
    this.rootCrl = files.rootCrl && parseCrl(files.rootCrl, "root crl");
  }

  get crls(): readonly Crl[] {
    return [this.pckCrl, this.rootCrl].filter((crl) => crl !== undefined);
  }

  /** Every certificate that may stand between a leaf and the root. */
  get intermediates(): readonly Certificate[] {
    return [...this.pckChain, ...this.pckCrlChain, ...this.tcbInfoChain, ...this.qeIdentityChain];
  }
}
