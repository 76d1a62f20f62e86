import { Worker } from "node:worker_threads";
import type { Json, JsonObject } from "@shelter/base";
import type {
  AuditReport,
  PolicyRule,
  ReferenceInfo,
  SecretInfo,
  SessionExplanation,
  TrustAnchorInfo,
  WhoAmI,
} from "./api.ts";
import type { BrokerState } from "./broker.ts";
import { BrokerError } from "./errors.ts";
import { parseReferenceDocument, parseWorkload, REQUIRED_PCRS } from "./judge/references.ts";
import { PROTOCOL_VERSION } from "./wire/messages.ts";
import { parsePattern, parseResourcePath } from "./wire/resource-path.ts";

/** The administrator's side: every change is one transaction with its audit entry. */
export class Administration {
  readonly #state: BrokerState;

  constructor(state: BrokerState) {
    this.#state = state;
  }

  /** The administrator a bearer token belongs to, or null. */
  authenticate(token: string): string | null {
    return this.#state.admins.byToken(token);
  }

  /** Records that somebody without a right token tried. */
  denied(address: string, method: string, path: string): void {
    this.#state.audit.append({
      actor: `client ${address}`,
      action: "admin",
      subject: "-",
      outcome: "refused",
      details: { method, path: path.slice(0, 200), reason: "no valid admin token" },
    });
  }

  #change<T>(
    admin: string,
    action: string,
    subject: string,
    work: () => { result: T; details?: JsonObject },
  ): T {
    return this.#state.db.transaction(() => {
      const { result, details } = work();
      this.#state.audit.append({
        actor: `admin ${admin}`,
        action,
        subject,
        outcome: "ok",
        details: details ?? {},
      });
      return result;
    });
  }

  whoami(admin: string): WhoAmI {
    const { id, key } = this.#state;
    return {
      admin,
      broker: id,
      version: "0.1.0",
      protocol: PROTOCOL_VERSION,
      key: key.jwk,
      keyThumbprint: key.thumbprint,
    };
  }

  putSecret(admin: string, uri: string, value: Uint8Array): SecretInfo {
    const path = parseResourcePath(uri);
    return this.#change(admin, "secret.put", path, () => {
      const result = this.#state.resources.put(path, value, this.#state.now());
      return { result, details: { version: result.version, size: result.size } };
    });
  }

  listSecrets(): SecretInfo[] {
    return this.#state.resources.list();
  }

  deleteSecret(admin: string, uri: string): void {
    const path = parseResourcePath(uri);
    this.#change(admin, "secret.delete", path, () => {
      if (!this.#state.resources.delete(path)) {
        throw new BrokerError("RESOURCE_UNKNOWN", "usage", `secret kbs:///${path} does not exist`);
      }
      return { result: undefined };
    });
  }

  putReference(admin: string, document: Json): ReferenceInfo[] {
    const parsed = parseReferenceDocument(document);
    return this.#change(admin, "reference.put", parsed.workload, () => {
      const result = this.#state.references.add(parsed, this.#state.now());
      return { result, details: { image: parsed.image, ids: result.map((r) => r.id) } };
    });
  }

  listReferences(workload?: string): ReferenceInfo[] {
    return this.#state.references.list(workload);
  }

  /** Removes one value by id, or all of a workload or of one image of it; `REFERENCE_UNKNOWN` for nothing. */
  deleteReference(admin: string, which: { id: number } | { workload: string; image: string | null }): number {
    const subject = "id" in which ? `#${which.id}` : parseWorkload(which.workload);
    return this.#change(admin, "reference.delete", subject, () => {
      const { references } = this.#state;
      const removed =
        "id" in which
          ? references.removeId(which.id)
          : references.removeWorkload(which.workload, which.image);
      if (removed === 0) {
        const image = "image" in which && which.image !== null ? ` of image ${which.image}` : "";
        throw new BrokerError("REFERENCE_UNKNOWN", "usage", `no reference value ${subject}${image}`);
      }
      return { result: removed, details: { removed, ...("image" in which ? { image: which.image } : {}) } };
    });
  }

  allow(admin: string, workload: Json | undefined, pattern: Json | undefined): PolicyRule {
    const name = parseWorkload(workload);
    const read = parsePattern(String(pattern));
    return this.#change(admin, "policy.allow", name, () => {
      const result = this.#state.policies.add(name, read, this.#state.now());
      return { result, details: { pattern: result.pattern, id: result.id } };
    });
  }

  listPolicies(): PolicyRule[] {
    return this.#state.policies.list();
  }

  revoke(admin: string, workload: string, pattern: string): void {
    const name = parseWorkload(workload);
    const read = parsePattern(pattern);
    this.#change(admin, "policy.revoke", name, () => {
      if (!this.#state.policies.remove(name, read)) {
        throw new BrokerError("POLICY_UNKNOWN", "usage", `no policy allows ${name} kbs:///${read}`);
      }
      return { result: undefined, details: { pattern: `kbs:///${read}` } };
    });
  }

  addTrustAnchor(admin: string, platform: Json | undefined, certificate: Uint8Array): TrustAnchorInfo {
    if (typeof platform !== "string" || !Object.hasOwn(REQUIRED_PCRS, platform)) {
      throw new BrokerError(
        "ANCHOR_MALFORMED",
        "malformed",
        `platform ${JSON.stringify(platform) ?? "nothing"} has no trust anchors here`,
      );
    }
    return this.#state.db.transaction(() => {
      const result = this.#state.anchors.add(platform, certificate, this.#state.now());
      const details = { platform, subject: result.subject };
      this.#state.audit.append({
        actor: `admin ${admin}`,
        action: "anchor.add",
        subject: result.id,
        outcome: "ok",
        details,
      });
      return result;
    });
  }

  listTrustAnchors(): TrustAnchorInfo[] {
    return this.#state.anchors.list();
  }

  /** Stops trusting the certificate whose id begins so. */
  deleteTrustAnchor(admin: string, prefix: string): string {
    const [anchor, ...more] = this.#state.anchors.list().filter((a) => a.id.startsWith(prefix));
    if (!anchor || more.length > 0 || prefix.length < 8) {
      throw new BrokerError(
        "ANCHOR_UNKNOWN",
        "usage",
        `no one trust anchor begins with ${JSON.stringify(prefix.slice(0, 80))}`,
        {
          hint: "give 8 digits of its id at least; shelter broker trust list shows them",
        },
      );
    }
    return this.#change(admin, "anchor.delete", anchor.id, () => {
      this.#state.anchors.remove(anchor.id);
      return { result: anchor.id, details: { subject: anchor.subject } };
    });
  }

  /** Ends the session whose id begins so. */
  revokeSession(admin: string, prefix: string): SessionExplanation["id"] {
    const session = this.#state.sessions.byPrefix(prefix);
    if (!session) throw unknownSession(prefix);
    return this.#change(admin, "session.revoke", session.id, () => ({
      result: session.id,
      details: { ended: this.#state.sessions.revoke(session.id) },
    }));
  }

  /** Checks the whole log beside the requests: a long one takes seconds, and guests wait for nobody. */
  auditVerify(): Promise<AuditReport> {
    this.#state.audit.signHead();
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL("./state/audit-verify-worker.ts", import.meta.url), {
        workerData: this.#state.stateDir,
      });
      worker.once("message", resolve);
      worker.once("error", reject);
    });
  }
}

/** The error for a session id nobody has. */
export function unknownSession(id: string): BrokerError {
  return new BrokerError(
    "SESSION_UNKNOWN",
    "usage",
    `no one session begins with ${JSON.stringify(id.slice(0, 64))}`,
    {
      hint: "shelter broker sessions lists them",
    },
  );
}
