import { constants, type KeyObject, verify } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import {
  AMD_CERTIFICATES,
  type Certificate,
  DcapCollateral,
  type DcapFiles,
  keyObject,
  parseCertificates,
  parseQuote,
  parseSnpReport,
  SnpCollateral,
  type Verdict,
  verifySgx,
  verifySnp,
  verifyTdx,
} from "../packages/attest/src/index.ts";
import { p256Key } from "../packages/attest/src/sgx/ecdsa.ts";

const EVIDENCE = join(import.meta.dirname, "../../shared/evidence");
const LIMIT = 1.5;
const ROUNDS = 60;
const BATCH = 10;

type Work = () => void;

/** One platform: verifying a whole piece of evidence, and only the signatures it rests on. */
interface Contest {
  readonly name: string;
  readonly whole: Work;
  readonly bare: Work;
}

function read(path: string): Uint8Array {
  return new Uint8Array(readFileSync(join(EVIDENCE, path)));
}

function key(certificate: Certificate): KeyObject {
  const found = keyObject(certificate.publicKey);
  if (found === undefined) throw new Error(`no key in ${certificate.subject.text}`);
  return found;
}

function must(ok: boolean, what: string): void {
  if (!ok) throw new Error(`${what} does not hold, so its time says nothing`);
}

function accepted(verdict: Verdict): void {
  must(verdict.outcome === "accepted", `${verdict.platform}: ${verdict.outcome}`);
}

/** A certificate's or CRL's own signature by an issuer, with node:crypto alone. */
function signatureOf(
  signed: Pick<Certificate, "tbs" | "signature" | "signatureAlgorithm">,
  issuer: KeyObject,
): Work {
  const { signatureAlgorithm: algorithm, tbs, signature } = signed;
  if (algorithm.kind === "unsupported") throw new Error(algorithm.name);
  const pss = { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 };
  const options = { key: issuer, ...(algorithm.kind === "rsa-pss" ? pss : { dsaEncoding: "der" as const }) };
  return () => must(verify(algorithm.hash, tbs, options, signature), algorithm.name);
}

function p1363(hash: string, data: Uint8Array, by: KeyObject, signature: Uint8Array): Work {
  return () => must(verify(hash, data, { key: by, dsaEncoding: "ieee-p1363" }, signature), hash);
}

function all(list: readonly Work[]): Work {
  return () => {
    for (const work of list) work();
  };
}

function certificate(bytes: Uint8Array): Certificate {
  const [first] = parseCertificates(bytes);
  if (first === undefined) throw new Error("no certificate");
  return first;
}

function snp(): Contest {
  const folder = "snp/genoa-v5-lunal";
  const report = read(`${folder}/report.bin`);
  const vek = read(`${folder}/vcek.der`);
  const at = new Date("2026-07-01T00:00:00Z");
  const collateral = new SnpCollateral({ vek });
  const leaf = certificate(vek);
  const ask = certificate(Buffer.from(AMD_CERTIFICATES.Genoa.ask));
  const ark = certificate(Buffer.from(AMD_CERTIFICATES.Genoa.ark));
  const { signature } = parseSnpReport(report);
  return {
    name: "SNP (Genoa, VCEK)",
    whole: () => accepted(verifySnp({ report, collateral, at })),
    bare: all([
      signatureOf(leaf, key(ask)),
      signatureOf(ask, key(ark)),
      p1363("sha384", report.subarray(0, 0x2a0), key(leaf), signature),
    ]),
  };
}

function dcapFiles(folder: string): DcapFiles {
  return {
    tcbInfo: read(`${folder}/tcb_info.json`),
    qeIdentity: read(`${folder}/qe_identity.json`),
    tcbInfoChain: read(`${folder}/tcb_info_issuer_chain.pem`),
    qeIdentityChain: read(`${folder}/qe_identity_issuer_chain.pem`),
    pckCrl: read(`${folder}/pck_crl.der`),
    pckCrlChain: read(`${folder}/pck_crl_issuer_chain.pem`),
    rootCrl: read(`${folder}/root_crl.der`),
  };
}

function bareDcap(quoteBytes: Uint8Array, collateral: DcapCollateral): Work {
  const quote = parseQuote(quoteBytes);
  const [pck, ca, root] = parseCertificates(quote.certification.data);
  const [tcbSigning] = collateral.tcbInfoChain;
  const { pckCrl, rootCrl, tcbInfo, qeIdentity } = collateral;
  const attestation = p256Key(quote.attestationKey);
  if (!pck || !ca || !root || !tcbSigning || !pckCrl || !rootCrl || !tcbInfo || !qeIdentity || !attestation) {
    throw new Error("evidence without all of its parts");
  }
  const signer = key(tcbSigning);
  return all([
    signatureOf(pck, key(ca)),
    signatureOf(ca, key(root)),
    signatureOf(pckCrl, key(ca)),
    signatureOf(rootCrl, key(root)),
    signatureOf(tcbSigning, key(root)),
    p1363("sha256", tcbInfo.signedBytes, signer, tcbInfo.signature),
    p1363("sha256", qeIdentity.signedBytes, signer, qeIdentity.signature),
    p1363("sha256", quote.qeReport.bytes, key(pck), quote.qeReportSignature),
    p1363("sha256", quote.signed, attestation, quote.signature),
  ]);
}

function tdx(): Contest {
  const folder = "tdx/tdx-v4-b0c06f-uptodate";
  const quote = read(`${folder}/quote.bin`);
  const collateral = new DcapCollateral(dcapFiles(folder));
  const at = new Date("2025-07-04T10:16:31Z");
  return {
    name: "TDX (quote v4)",
    whole: () => accepted(verifyTdx({ quote, collateral, at })),
    bare: bareDcap(quote, collateral),
  };
}

function sgx(): Contest {
  const folder = "sgx/sgx-v3-00606a-swhardening";
  const quote = read(`${folder}/quote.bin`);
  const collateral = new DcapCollateral(dcapFiles(folder));
  const at = new Date("2025-08-30T05:09:06Z");
  const expect = { allowTcbStatuses: ["SWHardeningNeeded"] as const };
  return {
    name: "SGX (quote v3)",
    whole: () => accepted(verifySgx({ quote, collateral, at, expect })),
    bare: bareDcap(quote, collateral),
  };
}

function milliseconds(work: Work): number {
  const from = process.hrtime.bigint();
  for (let i = 0; i < BATCH; i++) work();
  return Number(process.hrtime.bigint() - from) / 1e6 / BATCH;
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

/** Verifying evidence with collateral at hand against its signature checks alone, one core, interleaved. */
export async function run(): Promise<void> {
  if (!existsSync(EVIDENCE)) {
    console.log(`skipped: no evidence corpus at ${EVIDENCE}`);
    return;
  }
  for (const { name, whole, bare } of [snp(), tdx(), sgx()]) {
    const times = { whole: [] as number[], bare: [] as number[] };
    milliseconds(whole);
    milliseconds(bare);
    for (let i = 0; i < ROUNDS; i++) {
      times.bare.push(milliseconds(bare));
      times.whole.push(milliseconds(whole));
    }
    const [w, b] = [median(times.whole), median(times.bare)];
    const ratio = w / b;
    console.log(
      `${name}: ${w.toFixed(3)} ms, signatures alone ${b.toFixed(3)} ms: ${ratio.toFixed(2)}x (at most ${LIMIT}x)${ratio > LIMIT ? " MISSED" : ""}`,
    );
  }
}
