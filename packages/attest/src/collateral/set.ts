import { toHex } from "@shelter/base";
import { parseQuote, readPck } from "../sgx/index.ts";
import { parseSnpReport } from "../snp/index.ts";
import { parseCertificates } from "../x509/index.ts";
import { type CollateralPiece, type CollateralRole, recognise } from "./piece.ts";

const MAX_PIECES = 4096;

/**
 * Collateral of many platforms, as a cache directory holds it. Which piece fits is decided by what
 * the evidence says about itself, and of several that fit the one valid at the time with the latest
 * start is taken; whether it may be believed is for the verifier.
 */
export class CollateralSet {
  readonly pieces: readonly CollateralPiece[];
  /** Names of files that were not recognised. */
  readonly unknown: readonly string[];

  constructor(files: readonly { readonly name: string; readonly bytes: Uint8Array }[]) {
    const pieces: CollateralPiece[] = [];
    const unknown: string[] = [];
    for (const { name, bytes } of files.slice(0, MAX_PIECES)) {
      const piece = recognise(name, bytes);
      if (piece === undefined) unknown.push(name);
      else pieces.push(piece);
    }
    this.pieces = pieces;
    this.unknown = [...unknown, ...files.slice(MAX_PIECES).map((f) => f.name)];
  }

  #best(
    role: CollateralRole,
    at: Date,
    fits: (piece: CollateralPiece) => boolean = () => true,
  ): Uint8Array | undefined {
    const time = at.getTime();
    const valid = (p: CollateralPiece): boolean =>
      (p.notBefore === undefined || p.notBefore <= time) && (p.notAfter === undefined || time <= p.notAfter);
    const all = this.pieces.filter((p) => p.role === role);
    const fitting = all.filter(fits);
    // The only one there is goes to the verifier even so: it says better what does not fit.
    const candidates = fitting.length === 0 && all.length === 1 ? all : fitting;
    const order = (a: CollateralPiece, b: CollateralPiece): number =>
      Number(valid(b)) - Number(valid(a)) || (b.notBefore ?? 0) - (a.notBefore ?? 0);
    return candidates.sort(order)[0]?.bytes;
  }

  /** Files for an SNP report by role. */
  forSnp(report: Uint8Array, at: Date): Record<string, Uint8Array> {
    const { chipId, signingKey } = parseSnpReport(report);
    const chip = toHex(chipId);
    // A chip id shorter than the field (Turin) is followed by zeros there.
    const fits = (p: CollateralPiece): boolean =>
      signingKey === "VLEK" ? p.key === "" : p.key !== "" && (chip.startsWith(p.key) || /^0*$/.test(chip));
    const cas = this.pieces.filter((p) => p.role === "ca").map((p) => p.bytes);
    return defined({
      vek: this.#best("vek", at, fits),
      cert_table: this.#best("cert_table", at),
      ca: cas.length === 0 ? undefined : pemOf(cas),
      crl: this.#best("crl", at),
    });
  }

  /** Files for a TDX or SGX quote by role. */
  forQuote(quoteBytes: Uint8Array, at: Date): Record<string, Uint8Array> {
    const quote = parseQuote(quoteBytes);
    const tee = quote.body.kind === "sgx" ? "SGX" : "TDX";
    const { type, data } = quote.certification;
    const chain = this.#best("pck_chain", at);
    const certificates =
      type >= 4 ? parseCertificates(data) : chain === undefined ? [] : parseCertificates(chain);
    const leaf = certificates.find((c) => c.extensions.has("1.2.840.113741.1.13.1"));
    const fmspc = leaf === undefined ? undefined : toHex(readPck(leaf).fmspc);
    const issuer = leaf?.issuer.attributes.find((a) => a.oid === "2.5.4.3")?.value;
    return defined({
      tcb_info: this.#best("tcb_info", at, (p) => p.key === `${tee} ${fmspc}`),
      qe_identity: this.#best("qe_identity", at, (p) => p.key === (tee === "TDX" ? "TD_QE" : "QE")),
      tcb_info_chain: this.#best("tcb_info_chain", at),
      qe_identity_chain: this.#best("tcb_info_chain", at),
      pck_chain: type >= 4 ? undefined : chain,
      pck_crl: this.#best("pck_crl", at, (p) => p.key === issuer),
      pck_crl_chain: this.#best("pck_crl_chain", at, (p) => p.key === issuer),
      root_crl: this.#best("root_crl", at),
    });
  }

  /** The one file of a role that needs no choosing. */
  sole(role: CollateralRole, at: Date): Uint8Array | undefined {
    return this.#best(role, at);
  }
}

function defined(files: Readonly<Record<string, Uint8Array | undefined>>): Record<string, Uint8Array> {
  const entries = Object.entries(files).filter((e): e is [string, Uint8Array] => e[1] !== undefined);
  return Object.fromEntries(entries);
}

/** Certificate files of either form as one PEM file. */
function pemOf(files: readonly Uint8Array[]): Uint8Array {
  const blocks = files.flatMap((file) =>
    parseCertificates(file).map(
      (c) =>
        `-----BEGIN CERTIFICATE-----\n${Buffer.from(c.raw).toString("base64")}\n-----END CERTIFICATE-----\n`,
    ),
  );
  return Buffer.from(blocks.join(""), "latin1");
}
