import { type Certificate, type Crl, parseCertificates, parseCrl } from "../x509/index.ts";
import { parseCertTable } from "./cert-table.ts";
import { readVek, type Vek } from "./vek.ts";

/** Collateral as files. */
export interface SnpFiles {
  /** VCEK or VLEK certificate, DER or PEM. */
  readonly vek?: Uint8Array;
  /** ASK or ASVK, DER or PEM; more certificates (the ARK) may stand beside it. AMD's are built in. */
  readonly ca?: Uint8Array;
  /** Certificate table of an extended guest request, instead of `vek` and `ca`. */
  readonly certTable?: Uint8Array;
  readonly crls?: readonly Uint8Array[];
}

/** Collateral parsed once, to judge many reports with; nothing of it is believed yet. */
export class SnpCollateral {
  /** Endorsement keys by kind; a certificate table may hold one of each. */
  readonly veks: readonly Vek[];
  readonly intermediates: readonly Certificate[];
  readonly crls: readonly Crl[];

  constructor(files: SnpFiles) {
    const table = files.certTable === undefined ? undefined : parseCertTable(files.certTable);
    const intermediates: Certificate[] = [];
    const veks: Vek[] = [];
    const [leaf, ...others] = files.vek === undefined ? [] : parseCertificates(files.vek, "vek");
    if (leaf !== undefined) veks.push(readVek(leaf));
    intermediates.push(...others);
    if (files.ca !== undefined) intermediates.push(...parseCertificates(files.ca, "ca"));
    for (const kind of ["vcek", "vlek"] as const) {
      const [certificate] = parseEntry(table?.get(kind), kind);
      if (certificate !== undefined && leaf === undefined) veks.push(readVek(certificate));
    }
    for (const kind of ["ask", "ark"] as const) intermediates.push(...parseEntry(table?.get(kind), kind));
    this.veks = veks;
    this.intermediates = intermediates;
    const tableCrl = table?.get("crl");
    this.crls = [...(files.crls ?? []), ...(tableCrl === undefined ? [] : [tableCrl])].map((der) =>
      parseCrl(der),
    );
  }

  /** The key that a report names as its signer; else the only one there is. */
  vekFor(kind: string): Vek | undefined {
    return this.veks.find((v) => v.kind === kind) ?? (this.veks.length === 1 ? this.veks[0] : undefined);
  }
}

function parseEntry(bytes: Uint8Array | undefined, what: string): readonly Certificate[] {
  return bytes === undefined ? [] : parseCertificates(bytes, what);
}
