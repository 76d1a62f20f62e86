import { type ErrorKind, type Json, type JsonObject, parseJson } from "@shelter/base";
import type {
  AuditEntry,
  AuditHead,
  AuditReport,
  PolicyRule,
  ReferenceDocument,
  ReferenceInfo,
  SecretInfo,
  SessionExplanation,
  SessionSummary,
  TrustAnchorInfo,
  WhoAmI,
} from "./api.ts";
import { BrokerError, type BrokerErrorCode } from "./errors.ts";
import { send } from "./http/request.ts";
import { parsePattern, parseResourceUri } from "./wire/resource-path.ts";

/** Where a broker is and how to prove being its administrator. */
export interface BrokerClientOptions {
  /** `http://127.0.0.1:8080` or `https://host:port`. */
  readonly url: string;
  /** Content of `admin.token`. */
  readonly token: string;
  /** PEM certificates to trust for TLS, instead of the system's. */
  readonly ca?: string;
  readonly timeoutMs?: number;
}

const KINDS: readonly ErrorKind[] = ["usage", "malformed", "refused", "unavailable", "bug"];

/** Administers a broker over HTTP. */
export class BrokerClient {
  readonly #base: URL;
  readonly #options: BrokerClientOptions;

  constructor(options: BrokerClientOptions) {
    let base: URL;
    try {
      base = new URL(options.url);
    } catch (cause) {
      throw new BrokerError(
        "BROKER_UNREACHABLE",
        "usage",
        `broker URL ${JSON.stringify(options.url)} is not a URL`,
        {
          cause,
        },
      );
    }
    if (base.protocol !== "http:" && base.protocol !== "https:") {
      throw new BrokerError(
        "BROKER_UNREACHABLE",
        "usage",
        `broker URL ${options.url} is neither http nor https`,
      );
    }
    this.#base = base;
    this.#options = options;
  }

  /** The answer is believed to have the form this client expects: its broker is its own. */
  async #call<Answer>(method: string, path: string, body?: Uint8Array | object): Promise<Answer> {
    const bytes =
      body === undefined ? undefined : body instanceof Uint8Array ? body : Buffer.from(JSON.stringify(body));
    const { status, body: answer } = await send({
      method,
      url: new URL(path, this.#base),
      headers: {
        authorization: `Bearer ${this.#options.token.trim()}`,
        accept: "application/json",
        ...(bytes
          ? { "content-type": body instanceof Uint8Array ? "application/octet-stream" : "application/json" }
          : {}),
      },
      ...(bytes ? { body: bytes } : {}),
      ...(this.#options.ca === undefined ? {} : { ca: this.#options.ca }),
      timeoutMs: this.#options.timeoutMs ?? 30_000,
    });
    let value: Json;
    try {
      value = answer.byteLength === 0 ? null : parseJson(answer.toString("utf8"), "answer of the broker");
    } catch (cause) {
      throw new BrokerError(
        "BROKER_ANSWER",
        "unavailable",
        `${this.#base.origin} answers ${status}, not as a broker does`,
        {
          cause,
          hint: "is this the URL of shelter serve?",
        },
      );
    }
    if (status >= 200 && status < 300) return value as Answer;
    throw this.#failure(status, value);
  }

  #failure(status: number, value: Json): BrokerError {
    const told =
      value !== null && typeof value === "object" && !Array.isArray(value) ? (value as JsonObject) : {};
    const text = (key: string) => (typeof told[key] === "string" ? told[key] : undefined);
    const message = text("message") ?? text("detail") ?? `broker answers ${status}`;
    const kind =
      KINDS.find((k) => k === told["kind"]) ?? (status === 401 || status === 403 ? "refused" : "unavailable");
    const hint = text("hint");
    const code = (text("code") ?? (status === 401 ? "ADMIN_DENIED" : "BROKER_ANSWER")) as BrokerErrorCode;
    return new BrokerError(code, kind, message, hint === undefined ? {} : { hint });
  }

  /** Who this token belongs to. */
  async whoami(): Promise<WhoAmI> {
    return await this.#call<WhoAmI>("GET", "/shelter/v1/whoami");
  }

  /** Stores a secret (`kbs:///repo/type/tag`); an existing one is replaced. */
  async putSecret(uri: string, value: Uint8Array): Promise<SecretInfo> {
    return await this.#call<SecretInfo>("PUT", `/shelter/v1/secrets/${parseResourceUri(uri)}`, value);
  }

  /** Names, versions and sizes of all secrets, never values. */
  async listSecrets(): Promise<readonly SecretInfo[]> {
    return await this.#call<SecretInfo[]>("GET", "/shelter/v1/secrets");
  }

  /** Deletes a secret; `RESOURCE_UNKNOWN` when there is none. */
  async deleteSecret(uri: string): Promise<void> {
    await this.#call<null>("DELETE", `/shelter/v1/secrets/${parseResourceUri(uri)}`);
  }

  /** Adds the reference values of an image to its workload; values already there stay. */
  async putReference(document: ReferenceDocument): Promise<readonly ReferenceInfo[]> {
    return await this.#call<ReferenceInfo[]>("POST", "/shelter/v1/references", document);
  }

  /** All reference values, or those of one workload. */
  async listReferences(workload?: string): Promise<readonly ReferenceInfo[]> {
    const query = workload === undefined ? "" : `?workload=${encodeURIComponent(workload)}`;
    return await this.#call<ReferenceInfo[]>("GET", `/shelter/v1/references${query}`);
  }

  /** Removes reference values: of a workload, of one image of it, or one by id. Returns how many. */
  async deleteReference(which: { workload: string; image?: string } | { id: number }): Promise<number> {
    const query = new URLSearchParams(
      "id" in which
        ? { id: String(which.id) }
        : { workload: which.workload, ...(which.image === undefined ? {} : { image: which.image }) },
    );
    const answer = await this.#call<{ removed: number }>("DELETE", `/shelter/v1/references?${query}`);
    return answer.removed;
  }

  /** Lets a workload have the resources a pattern covers. */
  async allow(workload: string, pattern: string): Promise<PolicyRule> {
    const body = { workload, pattern: `kbs:///${parsePattern(pattern)}` };
    return await this.#call<PolicyRule>("POST", "/shelter/v1/policies", body);
  }

  /** All policy rules. */
  async listPolicies(): Promise<readonly PolicyRule[]> {
    return await this.#call<PolicyRule[]>("GET", "/shelter/v1/policies");
  }

  /** Takes a policy rule back. */
  async revoke(workload: string, pattern: string): Promise<void> {
    const query = new URLSearchParams({ workload, pattern: `kbs:///${parsePattern(pattern)}` });
    await this.#call<null>("DELETE", `/shelter/v1/policies?${query}`);
  }

  /** Trusts a CA certificate (PEM or DER) for endorsement chains of a platform. */
  async addTrustAnchor(certificate: string | Uint8Array, platform = "vtpm"): Promise<TrustAnchorInfo> {
    const body = { platform, certificate: Buffer.from(certificate).toString("base64") };
    return await this.#call<TrustAnchorInfo>("POST", "/shelter/v1/anchors", body);
  }

  /** All trust anchors. */
  async listTrustAnchors(): Promise<readonly TrustAnchorInfo[]> {
    return await this.#call<TrustAnchorInfo[]>("GET", "/shelter/v1/anchors");
  }

  /** Stops trusting the certificate whose id begins so (8 digits at least). */
  async deleteTrustAnchor(id: string): Promise<void> {
    await this.#call<null>("DELETE", `/shelter/v1/anchors/${encodeURIComponent(id)}`);
  }

  /** The latest sessions, newest first. */
  async sessions(limit = 50): Promise<readonly SessionSummary[]> {
    return await this.#call<SessionSummary[]>("GET", `/shelter/v1/sessions?limit=${limit}`);
  }

  /** One session in full; a unique prefix of its id is enough. */
  async explain(id: string): Promise<SessionExplanation> {
    return await this.#call<SessionExplanation>("GET", `/shelter/v1/sessions/${encodeURIComponent(id)}`);
  }

  /** Ends a session: nothing more is released to it. */
  async revokeSession(id: string): Promise<void> {
    await this.#call<null>("DELETE", `/shelter/v1/sessions/${encodeURIComponent(id)}`);
  }

  /** Audit entries after a sequence number, oldest first. */
  async audit(after = 0, limit = 1000): Promise<readonly AuditEntry[]> {
    return await this.#call<AuditEntry[]>("GET", `/shelter/v1/audit?after=${after}&limit=${limit}`);
  }

  /** The newest audit entries, oldest first. */
  async auditTail(count: number): Promise<readonly AuditEntry[]> {
    return await this.#call<AuditEntry[]>("GET", `/shelter/v1/audit?tail=${count}`);
  }

  /** Signed heads of the audit log, to be kept elsewhere. */
  async auditHeads(): Promise<readonly AuditHead[]> {
    return await this.#call<AuditHead[]>("GET", "/shelter/v1/audit/heads");
  }

  /** Has the broker check its own log; `verifyAudit` does it without trusting the broker. */
  async auditVerify(): Promise<AuditReport> {
    return await this.#call<AuditReport>("GET", "/shelter/v1/audit/verify");
  }
}
