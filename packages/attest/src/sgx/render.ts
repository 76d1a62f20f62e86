import { type Field, field, group } from "../describe.ts";
import { renderTdReport } from "../tdx/render.ts";
import { type Certificate, parseCertificates } from "../x509/index.ts";
import { type EnclaveReport, sgxAttributes } from "./enclave-report.ts";
import { readPck, SGX_EXTENSION } from "./pck.ts";
import { parseQuote, type Quote, TEE_TYPE } from "./quote.ts";

const CERTIFICATION_TYPES: Readonly<Record<number, string>> = {
  1: "PPID in plain text",
  2: "PPID encrypted with RSA-2048",
  3: "PPID encrypted with RSA-3072",
  4: "PCK certificate",
  5: "PCK certificate chain",
  6: "QE report",
};

/** The fields of an enclave's report (Intel SDM volume 3D, REPORT). */
export function renderSgx(report: EnclaveReport): readonly Field[] {
  const bits = sgxAttributes(report.attributes);
  return [
    field("CPUSVN", report.cpuSvn),
    field("MISCSELECT", `0x${report.miscSelect.toString(16).padStart(8, "0")}`),
    field("ISVEXTPRODID", report.isvExtProdId),
    group("ATTRIBUTES", [
      field("INIT", bits.init),
      field("DEBUG", bits.debug),
      field("MODE64BIT", bits.mode64),
      field("PROVISIONKEY", bits.provisionKey),
      field("EINITTOKEN_KEY", bits.einitTokenKey),
      field("KSS", bits.kss),
      field("XFRM", report.attributes.subarray(8)),
    ]),
    field("MRENCLAVE", report.mrEnclave),
    field("MRSIGNER", report.mrSigner),
    field("CONFIGID", report.configId),
    field("ISVPRODID", report.isvProdId),
    field("ISVSVN", report.isvSvn),
    field("CONFIGSVN", report.configSvn),
    field("ISVFAMILYID", report.isvFamilyId),
    field("REPORTDATA", report.reportData),
  ];
}

/** The fields of a quote of version 3 to 5, named as Intel's DCAP specifications name them. */
export function renderQuote(bytes: Uint8Array | Quote): readonly Field[] {
  const quote = bytes instanceof Uint8Array ? parseQuote(bytes) : bytes;
  const { header, body, certification } = quote;
  const tee = header.teeType === TEE_TYPE.sgx ? "SGX" : "TDX";
  return [
    group("Quote Header", [
      field("Version", header.version),
      field("Attestation Key Type", `${header.attestationKeyType} (ECDSA P-256)`),
      field("TEE Type", `0x${header.teeType.toString(16)} (${tee})`),
      ...(header.version === 3 ? [field("QE SVN", header.qeSvn), field("PCE SVN", header.pceSvn)] : []),
      field("QE Vendor ID", header.qeVendorId),
      field("User Data", header.userData),
    ]),
    body.kind === "sgx"
      ? group("Enclave Report", renderSgx(body.report))
      : group(body.kind === "td10" ? "TD Report 1.0" : "TD Report 1.5", renderTdReport(body.report)),
    group("Quote Signature Data", [
      field("ISV Enclave Report Signature", quote.signature),
      field("ECDSA Attestation Key", quote.attestationKey),
      group("QE Report", renderSgx(quote.qeReport)),
      field("QE Report Signature", quote.qeReportSignature),
      field("QE Authentication Data", quote.qeAuthData),
      group(
        "QE Certification Data",
        certification.type >= 4 ? renderChain(certification.data) : [field("Data", certification.data)],
        `${certification.type} (${CERTIFICATION_TYPES[certification.type]})`,
      ),
    ]),
  ];
}

function renderChain(data: Uint8Array): readonly Field[] {
  return parseCertificates(data, "pck chain").map((certificate) =>
    group("Certificate", renderCertificate(certificate), certificate.subject.text),
  );
}

function renderCertificate(certificate: Certificate): readonly Field[] {
  const fields: Field[] = [
    field("Issuer", certificate.issuer.text),
    field("Serial", certificate.serial),
    field("Not Before", new Date(certificate.notBefore)),
    field("Not After", new Date(certificate.notAfter)),
  ];
  if (!certificate.extensions.has(SGX_EXTENSION)) return fields;
  const pck = readPck(certificate);
  return [
    ...fields,
    field("PPID", pck.ppid),
    field("TCB Components", pck.components.join(" ")),
    field("PCESVN", pck.pceSvn),
    field("CPUSVN", pck.cpuSvn),
    field("PCEID", pck.pceId),
    field("FMSPC", pck.fmspc),
    field("SGX Type", pck.sgxType),
    ...(pck.platformInstanceId === undefined ? [] : [field("Platform Instance ID", pck.platformInstanceId)]),
  ];
}
