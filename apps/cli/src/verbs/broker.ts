import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ShelterError, stateDirectory } from "@shelter/base";
import {
  type AuditEntry,
  BrokerClient,
  type ReferenceDocument,
  auditVerify as verifyAuditState,
} from "@shelter/broker";
import { readInput } from "../input.ts";
import { printable, printJson, size, styled, table } from "../terminal.ts";

/** How every `shelter broker` command finds its broker. */
export interface BrokerOptions {
  readonly broker: string;
  readonly adminTokenFile?: string;
  readonly ca?: string;
  readonly json?: boolean;
}

/** Where `shelter serve` keeps its state unless told otherwise. */
export function brokerState(): string {
  return join(stateDirectory(), "broker");
}

/** A client for the broker the options name; the token of the local broker is found by itself. */
export function brokerClient(options: BrokerOptions): BrokerClient {
  const file = options.adminTokenFile ?? join(brokerState(), "admin.token");
  let token: string;
  try {
    token = readFileSync(file, "utf8").trim();
  } catch (cause) {
    throw new ShelterError("ADMIN_TOKEN_MISSING", "unavailable", `cannot read the admin token ${file}`, {
      cause,
      hint: "start a broker here (shelter serve), or name the token of another with --admin-token-file",
    });
  }
  const ca = options.ca === undefined ? {} : { ca: readFileSync(options.ca, "utf8") };
  return new BrokerClient({ url: options.broker, token, ...ca });
}

function print(options: BrokerOptions, value: unknown, text: () => string): void {
  if (options.json === true) printJson(value);
  else process.stdout.write(text());
}

/** `shelter broker secret set`. */
export async function secretSet(uri: string, file: string, options: BrokerOptions): Promise<void> {
  const stored = await brokerClient(options).putSecret(uri, await readInput(file));
  print(options, stored, () => `stored ${stored.uri}, version ${stored.version}, ${size(stored.size)}\n`);
}

/** `shelter broker secret list`. */
export async function secretList(options: BrokerOptions): Promise<void> {
  const secrets = await brokerClient(options).listSecrets();
  print(options, secrets, () =>
    table(
      ["URI", "VERSION", "SIZE", "UPDATED"],
      secrets.map((s) => [s.uri, String(s.version), size(s.size), s.updated]),
    ),
  );
}

/** `shelter broker secret rm`. */
export async function secretRemove(uri: string, options: BrokerOptions): Promise<void> {
  await brokerClient(options).deleteSecret(uri);
  print(options, { removed: uri }, () => `removed ${uri}\n`);
}

/** `shelter broker reference set`. */
export async function referenceSet(file: string, options: BrokerOptions): Promise<void> {
  const text = Buffer.from(await readInput(file)).toString("utf8");
  let document: ReferenceDocument;
  try {
    document = JSON.parse(text) as ReferenceDocument;
  } catch (cause) {
    throw new ShelterError(
      "REFERENCE_MALFORMED",
      "malformed",
      `${file === "-" ? "standard input" : file} is not JSON`,
      {
        cause,
        hint: "make one with: shelter measure NAME --reference",
      },
    );
  }
  const stored = await brokerClient(options).putReference(document);
  print(
    options,
    stored,
    () => `${document.workload}: ${stored.length} reference value${stored.length === 1 ? "" : "s"} stored\n`,
  );
}

/** `shelter broker reference list`. */
export async function referenceList(options: BrokerOptions): Promise<void> {
  const references = await brokerClient(options).listReferences();
  print(options, references, () =>
    table(
      ["WORKLOAD", "PLATFORM", "SHAPE", "IMAGE", "PCRS"],
      references.map((r) => [
        r.workload,
        r.platform,
        r.shape === null
          ? "any"
          : Object.entries(r.shape)
              .map(
                ([k, v]) =>
                  `${k}=${k === "memory" && typeof v === "number" ? size(v).replace(" ", "") : String(v)}`,
              )
              .join(" "),
        r.image?.slice(7, 19) ?? "",
        Object.keys(r.pcrs).join(","),
      ]),
    ),
  );
}

/** `shelter broker reference rm`. */
export async function referenceRemove(
  workload: string,
  options: BrokerOptions & { image?: string },
): Promise<void> {
  const which = options.image === undefined ? { workload } : { workload, image: options.image };
  const removed = await brokerClient(options).deleteReference(which);
  print(
    options,
    { removed },
    () => `${workload}: ${removed} reference value${removed === 1 ? "" : "s"} removed\n`,
  );
}

/** `shelter broker policy allow`. */
export async function policyAllow(workload: string, uri: string, options: BrokerOptions): Promise<void> {
  const rule = await brokerClient(options).allow(workload, uri);
  print(options, rule, () => `${rule.workload} may have ${rule.pattern}\n`);
}

/** `shelter broker policy list`. */
export async function policyList(options: BrokerOptions): Promise<void> {
  const rules = await brokerClient(options).listPolicies();
  print(options, rules, () =>
    table(
      ["WORKLOAD", "MAY HAVE", "SINCE"],
      rules.map((r) => [r.workload, r.pattern, r.added]),
    ),
  );
}

/** `shelter broker policy revoke`. */
export async function policyRevoke(workload: string, uri: string, options: BrokerOptions): Promise<void> {
  await brokerClient(options).revoke(workload, uri);
  print(options, { revoked: { workload, uri } }, () => `${workload} may no longer have ${uri}\n`);
}

/** `shelter broker trust add`. */
export async function trustAdd(file: string, options: BrokerOptions): Promise<void> {
  const anchor = await brokerClient(options).addTrustAnchor(await readInput(file));
  print(options, anchor, () => `trusted: ${anchor.subject}, until ${anchor.notAfter}\n`);
}

/** `shelter broker trust list`. */
export async function trustList(options: BrokerOptions): Promise<void> {
  const anchors = await brokerClient(options).listTrustAnchors();
  print(options, anchors, () =>
    table(
      ["ID", "PLATFORM", "SUBJECT", "VALID UNTIL"],
      anchors.map((a) => [a.id.slice(0, 12), a.platform, printable(a.subject), a.notAfter]),
    ),
  );
}

function auditLine(entry: AuditEntry): string {
  const outcome = entry.outcome === "ok" ? styled("green", entry.outcome) : styled("red", entry.outcome);
  return `${printable(
    `${String(entry.seq).padStart(6)}  ${entry.time}  ${entry.actor}  ${entry.action}  ${entry.subject}  `,
  )}${outcome}\n`;
}

/** `shelter broker audit show`. */
export async function auditShow(options: BrokerOptions & { tail: number }): Promise<void> {
  const client = brokerClient(options);
  const { entries } = await client.auditVerify();
  const shown = await client.audit(Math.max(0, entries - options.tail), options.tail);
  for (const entry of shown)
    process.stdout.write(options.json === true ? `${JSON.stringify(entry)}\n` : auditLine(entry));
}

/** `shelter broker audit verify`: reads the state directory itself, so a lying broker cannot help. */
export async function auditVerify(options: { state?: string; json?: boolean }): Promise<void> {
  const found = verifyAuditState(options.state ?? brokerState());
  if (options.json === true) printJson(found);
  if (!found.ok) {
    const at = found.firstBroken;
    throw new ShelterError(
      "AUDIT_BROKEN",
      "refused",
      at === null ? "the audit log is broken" : `the audit log is broken at entry ${at.seq}: ${at.reason}`,
      {
        hint: "compare with a copy or with signed heads kept elsewhere; what comes after that entry proves nothing",
      },
    );
  }
  if (options.json !== true) {
    process.stdout.write(`${found.entries} entries, unbroken; signed up to entry ${found.signedUpTo}\n`);
  }
}

/** `shelter broker sessions`. */
export async function sessions(options: BrokerOptions): Promise<void> {
  const list = await brokerClient(options).sessions();
  print(options, list, () =>
    table(
      ["SESSION", "PLATFORM", "STATE", "WORKLOAD", "CREATED", "REASON"],
      list.map((s) => [
        s.id.slice(0, 12),
        s.tee,
        s.state,
        s.workloads.join(","),
        s.created,
        printable(s.reason ?? "").slice(0, 120),
      ]),
    ),
  );
}

/** `shelter broker explain`. */
export async function explain(id: string, options: BrokerOptions): Promise<void> {
  const session = await brokerClient(options).explain(id);
  print(options, session, () => {
    const lines = [
      `session   ${session.id}`,
      `platform  ${session.tee}   state ${session.state}   created ${session.created}`,
      `key       ${session.keyThumbprint ?? "none offered"}`,
      "",
    ];
    for (const check of session.checks) {
      const mark = check.ok ? styled("green", "ok  ") : styled("red", "FAIL");
      lines.push(`${mark} ${check.name}${check.detail === undefined ? "" : `: ${printable(check.detail)}`}`);
      if (!check.ok && check.claimed !== undefined)
        lines.push(`       claimed   ${printable(check.claimed)}`);
      if (!check.ok && check.expected !== undefined)
        lines.push(`       expected  ${printable(check.expected)}`);
    }
    if (session.nearest !== null && session.nearest.differs.length > 0) {
      lines.push("", `closest known workload: ${session.nearest.workload}; it differs in`);
      for (const d of session.nearest.differs) {
        lines.push(
          `  PCR ${d.pcr} (${d.what})`,
          `       claimed   ${d.claimed}`,
          `       expected  ${d.expected}`,
        );
      }
    }
    lines.push("");
    for (const release of session.releases) {
      lines.push(
        `${release.time}  ${release.outcome}  ${release.path}${release.reason === null ? "" : `  ${printable(release.reason)}`}`,
      );
    }
    if (session.reason !== null) lines.push(styled("red", `refused: ${printable(session.reason)}`));
    return `${lines.join("\n")}\n`;
  });
}
