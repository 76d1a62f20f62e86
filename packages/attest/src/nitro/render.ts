import { type Field, field, group } from "../describe.ts";
import { type Certificate, parseCertificate } from "../x509/index.ts";
import { parseNitroDocument } from "./document.ts";

/** Decoded document, named as AWS's specification names it. */
export function renderNitro(bytes: Uint8Array): readonly Field[] {
  const document = parseNitroDocument(bytes);
  const optional = (name: string, value: Uint8Array | undefined): Field =>
    value === undefined ? { name, value: "null" } : field(name, value);
  return [
    group("COSE_Sign1", [
      group("protected", [field("alg", document.cose.algorithm?.name ?? document.cose.alg)]),
      group("payload", [
        field("module_id", document.moduleId),
        field("digest", document.digest),
        field("timestamp", `${document.timestamp} (${new Date(document.timestamp).toISOString()})`),
        group(
          "pcrs",
          [...document.pcrs].map(([index, value]) => field(String(index), value)),
        ),
        renderCertificate("certificate", parseCertificate(document.certificate, "certificate")),
        group(
          "cabundle",
          document.cabundle.map((der, i) =>
            renderCertificate(String(i), parseCertificate(der, `cabundle ${i}`)),
          ),
        ),
        optional("public_key", document.publicKey),
        optional("user_data", document.userData),
        optional("nonce", document.nonce),
      ]),
      field("signature", document.cose.signature),
    ]),
  ];
}

function renderCertificate(name: string, certificate: Certificate): Field {
  return group(name, [
    field("subject", certificate.subject.text),
    field("issuer", certificate.issuer.text),
    field("notBefore", new Date(certificate.notBefore)),
    field("notAfter", new Date(certificate.notAfter)),
    field("publicKey", certificate.publicKey.name),
  ]);
}
