import {
  AMD_CERTIFICATES,
  AWS_NITRO_ROOT,
  type Certificate,
  CheckList,
  INTEL_SGX_ROOT_CA,
  parseCertificates,
  parsePem,
  type RoleFiles,
  type Verdict,
  verifyChain,
  verifyHrk,
  verifySignature,
} from "@shelter/attest";
import { describe, ShelterError, sameBytes } from "@shelter/base";
import type { CorpusItem } from "./corpus.ts";

/**
 * Judges files offered as a vendor's root: a root signs itself, what else is there chains to it, and
 * nothing may carry the name of a built-in root without being it.
 */
export function judgeRootItem(item: CorpusItem, files: RoleFiles): Verdict {
  const checks = new CheckList();
  try {
    const hrk = files["hrk"];
    if (item.tee === "csv" && hrk !== undefined) return verifyHrk(hrk);
    judgeX509(item, files, checks);
  } catch (error) {
    if (!(error instanceof ShelterError) || error.kind !== "malformed") throw error;
    checks.add({ name: "root-form", ok: false, failure: "malformed", detail: describe(error) });
  }
  return checks.verdict(item.tee, {});
}

const ROOT_ROLES = ["ark", "root", "root_der"];

function judgeX509(item: CorpusItem, files: RoleFiles, checks: CheckList): void {
  const parsed = Object.entries(files).flatMap(([role, file]) =>
    file === undefined ? [] : parseCertificates(file, role).map((certificate) => ({ role, certificate })),
  );
  const roots = parsed.filter((p) => ROOT_ROLES.includes(p.role)).map((p) => p.certificate);
  const [root] = roots;
  checks.add({ name: "root", ok: root !== undefined, failure: "malformed" });
  if (root === undefined) return;
  const at = item.verifyAt ?? new Date("2026-01-01T00:00:00Z");
  checks.add({
    name: "root-forms-agree",
    ok: roots.every((other) => sameBytes(other.raw, root.raw)),
    failure: "untrusted",
  });
  checks.add({
    name: "root-self-signature",
    ok:
      root.issuer.key === root.subject.key &&
      verifySignature(root.signatureAlgorithm, root.publicKey, root.tbs, root.signature),
    failure: "untrusted",
    claimed: root.subject.text,
  });
  const impostor = builtIn().find((b) => b.subject.key === root.subject.key && !sameBytes(b.raw, root.raw));
  checks.add({
    name: "root-not-a-look-alike",
    ok: impostor === undefined,
    failure: "untrusted",
    claimed: root.subject.text,
  });
  for (const { role, certificate } of parsed) {
    verifyChain({ leaf: certificate, intermediates: [], anchors: [root], at, checks, label: role });
  }
}

function builtIn(): Certificate[] {
  const amd = Object.values(AMD_CERTIFICATES).flatMap((product) => parsePem(product.ark));
  return [...amd, ...parsePem(INTEL_SGX_ROOT_CA), ...parseCertificates(AWS_NITRO_ROOT, "aws root")];
}
