import { toHex } from "@shelter/base";
import { type EnclaveReport, sgxAttributes } from "./enclave-report.ts";
import type { DcapFindings } from "./judge.ts";
import type { Quote } from "./quote.ts";

/** Values of the header, the platform and the TCB, as both SGX and TDX verdicts claim them. */
export function dcapClaims(quote: Quote, findings: DcapFindings | undefined): Record<string, unknown> {
  const { header, qeReport } = quote;
  const pck = findings?.pck;
  const tcb = findings?.tcb;
  return {
    quote_version: header.version,
    tee_type: `0x${header.teeType.toString(16)}`,
    body: quote.body.kind,
    attestation_key_type: header.attestationKeyType,
    qe_svn: header.qeSvn,
    pce_svn: header.pceSvn,
    cert_data_type: quote.certification.type,
    quote_length: quote.length,
    qe: { mrsigner: toHex(qeReport.mrSigner), prodid: qeReport.isvProdId, svn: qeReport.isvSvn },
    ...(pck === undefined
      ? {}
      : {
          pck: {
            fmspc: toHex(pck.fmspc),
            pceid: toHex(pck.pceId),
            pcesvn: pck.pceSvn,
            comp: pck.components,
            cpusvn: toHex(pck.cpuSvn),
            ppid: toHex(pck.ppid),
          },
          pck_ca: pck.certificate.issuer.attributes.find((a) => a.oid === "2.5.4.3")?.value,
          fmspc: toHex(pck.fmspc),
        }),
    ...(tcb === undefined
      ? {}
      : {
          tcb_status: tcb.status,
          tcb_detail: {
            platform: tcb.platform ?? "no matching level",
            tcb_date: tcb.date === undefined ? null : new Date(tcb.date).toISOString().replace(".000Z", "Z"),
            tdx_module: tcb.module ?? null,
            qe: tcb.qe ?? null,
            advisories: tcb.advisories.length === 0 ? null : tcb.advisories,
            tcb_evaluation_data_number: findings?.collateral?.tcbInfo?.tcbEvaluationDataNumber,
          },
        }),
  };
}

/** Values of an enclave's report. */
export function enclaveClaims(report: EnclaveReport): Record<string, unknown> {
  const bits = sgxAttributes(report.attributes);
  return {
    cpusvn: toHex(report.cpuSvn),
    misc: toHex(Uint8Array.from([0, 8, 16, 24], (shift) => (report.miscSelect >>> shift) & 0xff)),
    attr: toHex(report.attributes),
    attributes_bits: {
      init: bits.init,
      debug: bits.debug,
      mode64: bits.mode64,
      provision_key: bits.provisionKey,
      einittoken_key: bits.einitTokenKey,
    },
    mrenclave: toHex(report.mrEnclave),
    mrsigner: toHex(report.mrSigner),
    prodid: report.isvProdId,
    svn: report.isvSvn,
    config_id: toHex(report.configId),
    config_svn: report.configSvn,
    isv_ext_prod_id: toHex(report.isvExtProdId),
    isv_family_id: toHex(report.isvFamilyId),
    report_data: toHex(report.reportData),
  };
}
