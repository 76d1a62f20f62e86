import { type Check, CheckList } from "../verdict.ts";
import { type Certificate, EXTENSION, type KeyUsage } from "./certificate.ts";
import { type Crl, crlLimit, crlSignedBy } from "./crl.ts";
import { findPaths } from "./path.ts";

/** What to verify, and against what. */
export interface ChainRequest {
  readonly leaf: Certificate;
  /** Certificates that came along; never anchors, whatever they say about themselves. */
  readonly intermediates: readonly Certificate[];
  /** The pinned anchors; a chain ends at one of these exact bytes. */
  readonly anchors: readonly Certificate[];
  /** The time to judge at. */
  readonly at: Date;
  readonly crls?: readonly Crl[];
  /** Which certificates of the chain need a CRL of their issuer; default `none`: those there are count. */
  readonly requireCrls?: "all" | "intermediates" | "none";
  /** A use the leaf's key must be allowed for, when the leaf restricts it. */
  readonly leafKeyUsage?: KeyUsage;
  /** An extendedKeyUsage the leaf must list. */
  readonly leafExtendedKeyUsage?: string;
  /** Critical extensions the caller looks at itself, as dotted identifiers. */
  readonly knownCritical?: readonly string[];
  /** Where the checks go, as `LABEL-signature`, `LABEL-anchor` and so on. */
  readonly checks: CheckList;
  readonly label: string;
}

/** The chain that was judged. */
export interface ChainResult {
  /** Whether every check about the chain held. */
  readonly trusted: boolean;
  /** Leaf first, anchor last; what there is of it when no anchor was reached. */
  readonly path: readonly Certificate[];
}

const KNOWN_CRITICAL: ReadonlySet<string> = new Set([
  EXTENSION.keyUsage,
  EXTENSION.basicConstraints,
  EXTENSION.extendedKeyUsage,
  EXTENSION.subjectAltName,
  EXTENSION.subjectKeyId,
  EXTENSION.authorityKeyId,
  EXTENSION.certificatePolicies,
  EXTENSION.crlDistributionPoints,
]);

/**
 * Verifies a certificate up to a pinned anchor (RFC 5280 section 6) and records each check under its
 * own name. With several ways to an anchor, one that holds throughout is enough.
 */
export function verifyChain(request: ChainRequest): ChainResult {
  const { leaf, anchors, checks, label } = request;
  const search = findPaths(leaf, request.intermediates, anchors);
  if (search.paths.length === 0) {
    const end = search.dead.at(-1) ?? leaf;
    const selfIssued = end.issuer.key === end.subject.key;
    const wrongKey = search.lookAlikes > 0 && !selfIssued;
    checks.add({
      name: wrongKey ? `${label}-signature` : `${label}-anchor`,
      ok: false,
      failure: "untrusted",
      claimed: selfIssued ? end.subject.text : end.issuer.text,
      expected: anchors.map((a) => a.subject.text).join(" or ") || "an anchor",
      detail: wrongKey
        ? `${end.subject.text} is not signed by the given ${end.issuer.text}`
        : selfIssued
          ? `the chain ends at ${end.subject.text}, which is not a pinned anchor`
          : `no certificate of ${end.issuer.text} is among those given`,
    });
    return { trusted: false, path: search.dead };
  }
  let best: { list: CheckList; path: readonly Certificate[] } | undefined;
  for (const path of search.paths) {
    const list = new CheckList();
    judgePath(path, request, list);
    best ??= { list, path };
    if (list.checks.every((c) => c.ok)) {
      best = { list, path };
      break;
    }
  }
  if (best === undefined) return { trusted: false, path: [] };
  checks.include(best.list);
  return { trusted: best.list.checks.every((c) => c.ok), path: best.path };
}

function judgePath(path: readonly Certificate[], request: ChainRequest, checks: CheckList): void {
  const { label } = request;
  const at = request.at.getTime();
  const [leaf] = path;
  const anchor = path.at(-1);
  if (leaf === undefined || anchor === undefined) return;
  const add = (
    name: string,
    failure: Check["failure"],
    problem: string | undefined,
    extra: Partial<Check> = {},
  ): void => {
    checks.add({
      name: `${label}-${name}`,
      ok: problem === undefined,
      failure,
      ...extra,
      ...(problem === undefined ? {} : { detail: problem }),
    });
  };
  add("signature", "untrusted", undefined, { claimed: path.map((c) => c.subject.text).join(" < ") });
  add("anchor", "untrusted", undefined, { claimed: anchor.subject.text });
  add(
    "validity",
    "expired",
    first(path, (c) => validityProblem(c, at)),
    {
      expected: request.at.toISOString(),
    },
  );
  add("ca", "untrusted", first(path.slice(1), caProblem));
  add("path-length", "untrusted", pathLengthProblem(path));
  const known = new Set([...KNOWN_CRITICAL, ...(request.knownCritical ?? [])]);
  add(
    "critical-extensions",
    "untrusted",
    first(path, (c) => criticalProblem(c, known)),
  );
  if (request.leafKeyUsage !== undefined) {
    const allowed = leaf.keyUsage === undefined || leaf.keyUsage.has(request.leafKeyUsage);
    add(
      "key-usage",
      "untrusted",
      allowed ? undefined : `${leaf.subject.text} may not be used for ${request.leafKeyUsage}`,
    );
  }
  const use = request.leafExtendedKeyUsage;
  if (use !== undefined) {
    const listed = leaf.extendedKeyUsage?.includes(use) ?? false;
    add("extended-key-usage", "untrusted", listed ? undefined : `${leaf.subject.text} does not list ${use}`, {
      claimed: leaf.extendedKeyUsage?.join(" ") ?? "none",
      expected: use,
    });
  }
  judgeRevocation(path, request, checks, add);
}

function first(
  path: readonly Certificate[],
  problem: (c: Certificate) => string | undefined,
): string | undefined {
  for (const certificate of path) {
    const found = problem(certificate);
    if (found !== undefined) return found;
  }
  return undefined;
}

function validityProblem(c: Certificate, at: number): string | undefined {
  if (at < c.notBefore) return `${c.subject.text} is valid from ${new Date(c.notBefore).toISOString()}`;
  if (at > c.notAfter) return `${c.subject.text} was valid until ${new Date(c.notAfter).toISOString()}`;
  return undefined;
}

function caProblem(c: Certificate): string | undefined {
  if (c.basicConstraints?.ca !== true) return `${c.subject.text} is not a certificate authority`;
  if (c.keyUsage !== undefined && !c.keyUsage.has("keyCertSign")) {
    return `${c.subject.text} may not sign certificates`;
  }
  return undefined;
}

function pathLengthProblem(path: readonly Certificate[]): string | undefined {
  // Self-issued certificates do not count, nor does the leaf (RFC 5280 section 4.2.1.9).
  let below = 0;
  for (const [i, c] of path.entries()) {
    if (i === 0) continue;
    const limit = c.basicConstraints?.pathLength;
    if (limit !== undefined && below > limit) {
      return `${c.subject.text} allows ${limit} certificate authorities below it, there are ${below}`;
    }
    if (c.issuer.key !== c.subject.key) below++;
  }
  return undefined;
}

function criticalProblem(c: Certificate, known: ReadonlySet<string>): string | undefined {
  for (const extension of c.extensions.values()) {
    if (extension.critical && !known.has(extension.oid)) {
      return `${c.subject.text} has the critical extension ${extension.oid}, which is not known`;
    }
  }
  return undefined;
}

type Add = (
  name: string,
  failure: Check["failure"],
  problem: string | undefined,
  extra?: Partial<Check>,
) => void;

function judgeRevocation(
  path: readonly Certificate[],
  request: ChainRequest,
  checks: CheckList,
  add: Add,
): void {
  const crls = request.crls ?? [];
  const required = request.requireCrls ?? "none";
  if (crls.length === 0 && required === "none") return;
  const at = request.at.getTime();
  let revoked: string | undefined;
  let stale: string | undefined;
  let forged: string | undefined;
  for (const [i, certificate] of path.slice(0, -1).entries()) {
    const issuer = path[i + 1];
    if (issuer === undefined) break;
    const named = crls.filter((crl) => crl.issuer.key === issuer.subject.key);
    const signed = named.filter((crl) => crlSignedBy(crl, issuer));
    const whole = signed.filter((crl) => crlLimit(crl) === undefined);
    // One that lists the certificate counts, however old or partial it is.
    if (signed.some((crl) => crl.revoked.has(certificate.serial))) {
      revoked ??= `${certificate.subject.text} (serial ${certificate.serial}) is revoked by ${issuer.subject.text}`;
    }
    const current = whole.some(
      (crl) => at >= crl.thisUpdate && (crl.nextUpdate === undefined || at <= crl.nextUpdate),
    );
    if (current) continue;
    if (whole.length > 0) {
      stale ??= `no CRL of ${issuer.subject.text} is valid then (${whole.map(crlSpan).join(", ")})`;
    } else if (named.length > 0) {
      forged ??=
        signed.length === 0
          ? `the CRL of ${issuer.subject.text} is not signed by it`
          : `the CRL of ${issuer.subject.text} cannot be used: ${crlLimit(signed[0]!)}`;
    } else if (required === "all" || (required === "intermediates" && i > 0)) {
      checks.miss(`crl of ${issuer.subject.text}`);
    }
  }
  add("crl-signature", "untrusted", forged);
  add("crl-validity", "expired", stale, { expected: request.at.toISOString() });
  add("revocation", "untrusted", revoked);
}

function crlSpan(crl: Crl): string {
  const end = crl.nextUpdate === undefined ? "no end" : new Date(crl.nextUpdate).toISOString();
  return `${new Date(crl.thisUpdate).toISOString()} to ${end}`;
}
