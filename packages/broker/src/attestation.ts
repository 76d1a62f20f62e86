import { randomBytes } from "node:crypto";
import { describe, type JsonObject, ShelterError, toHex } from "@shelter/base";
import type { SessionExplanation, SessionState, SessionSummary } from "./api.ts";
import type { BrokerState } from "./broker.ts";
import { bindings, conclude, type Judgement, plain, readJudgement } from "./judge/judgement.ts";
import { matchWorkloads } from "./judge/match.ts";
import type { Appraisal, PlatformVerifier } from "./judge/platform.ts";
import { addressKey, RateLimiter } from "./rate-limit.ts";
import type { Session } from "./state/sessions.ts";
import { encryptTo, type FlattenedJwe } from "./wire/jwe.ts";
import { type AttestRequest, parseAttestRequest, parseAuthRequest, reportData } from "./wire/messages.ts";
import { parseResourcePath, type ResourcePath } from "./wire/resource-path.ts";
import { parseTeeKey } from "./wire/tee-key.ts";
import { issueToken, readToken } from "./wire/token.ts";

/** Names of errors as Trustee's clients know them (kbs/src/error.rs). */
export type WireVariant =
  | "AttestationError"
  | "InvalidRequestPath"
  | "PluginNotFound"
  | "PolicyDeny"
  | "ResourceNotFound"
  | "TokenNotFound"
  | "TokenVerifierError"
  | "TooManySessions";

/** A refusal on its way to a guest. */
export class WireRefusal extends ShelterError<WireVariant> {
  readonly status: number;

  constructor(code: WireVariant, status: number, detail: string) {
    super(code, "refused", detail);
    this.status = status;
  }
}

// Refusals of one address recorded one by one: a row of guests that all start wrong, then two a second.
const STRANGERS = { burst: 200, perSecond: 2 };
const MAX_TEXT = 2048; // of a reason a client has a hand in

const NOT_GRANTED = "no such resource, or not granted to this guest";

/** The guest's side of the broker: request, challenge, attestation, response, and resources. */
export class Attestation {
  readonly #state: BrokerState;
  readonly #strangers = new RateLimiter(STRANGERS);
  #unrecorded = 0;

  constructor(state: BrokerState) {
    this.#state = state;
  }

  /** Opens a session. Throws `WireRefusal`. */
  auth(body: string, address: string): { cookie: string; expires: Date; challenge: JsonObject } {
    const { sessions, audit, db, now } = this.#state;
    try {
      const request = parseAuthRequest(body);
      const platform = this.#platform(request.tee);
      const challenge = platform.challenge(request.extraParams);
      const nonce = randomBytes(32).toString("base64");
      return db.transaction(() => {
        const opened = sessions.open(request.tee, nonce, challenge.keep, addressKey(address), now());
        if (!opened) {
          throw new WireRefusal("TooManySessions", 503, "too many unanswered sessions, try again later");
        }
        const { cookie, session } = opened;
        audit.append({
          actor: `client ${address}`,
          action: "auth",
          subject: session.id,
          outcome: "ok",
          details: { tee: request.tee },
        });
        return { cookie, expires: session.expires, challenge: { nonce, "extra-params": challenge.reply } };
      });
    } catch (error) {
      throw this.#stranger(address, "auth", "-", error);
    }
  }

  /**
   * Refuses somebody who has shown nothing yet. What costs them one request must not cost the audit log
   * an entry without end: past a budget per address only their number is recorded.
   */
  #stranger(address: string, action: string, subject: string, error: unknown): unknown {
    if (!(error instanceof ShelterError) || error.kind === "bug" || error.kind === "unavailable")
      return error;
    if (this.#strangers.take(address, this.#state.now().getTime())) {
      const details = { reason: error.message.slice(0, MAX_TEXT) };
      this.#state.audit.append({ actor: `client ${address}`, action, subject, outcome: "refused", details });
    } else {
      this.#unrecorded++;
    }
    return error instanceof WireRefusal ? error : new WireRefusal("AttestationError", 401, describe(error));
  }

  /** Records how many refusals were too many to record each. */
  tick(): void {
    if (this.#unrecorded === 0) return;
    const details = { count: this.#unrecorded };
    this.#state.audit.append({
      actor: "broker",
      action: "unrecorded",
      subject: "-",
      outcome: "refused",
      details,
    });
    this.#unrecorded = 0;
  }

  #platform(tee: string): PlatformVerifier {
    const platform = this.#state.platforms.get(tee);
    if (platform) return platform;
    const known = [...this.#state.platforms.keys()].join(", ");
    throw new WireRefusal(
      "AttestationError",
      401,
      `PLATFORM_UNSUPPORTED: tee ${tee} is not verified by this broker, only ${known}`,
    );
  }

  /** The session of a cookie whose evidence may be judged; throws for any other. */
  admit(cookie: string | undefined, address: string): Session {
    const { sessions, now } = this.#state;
    const refuse = (detail: string, subject = "-") =>
      this.#stranger(address, "attest", subject, new WireRefusal("AttestationError", 401, detail));
    if (cookie === undefined) throw refuse("session: no kbs-session-id cookie");
    const session = sessions.byCookie(cookie);
    if (!session) throw refuse("session: unknown or expired; begin again with /auth");
    if (session.state !== "open" || session.expires <= now()) throw refuse(spent(session, now()), session.id);
    return session;
  }

  /** Judges evidence; a session's nonce is spent by its first attempt, whatever comes of it. */
  async attest(cookie: string | undefined, body: string, address: string): Promise<{ token: string }> {
    const { sessions, now } = this.#state;
    const session = this.admit(cookie, address);
    let request: AttestRequest;
    try {
      request = parseAttestRequest(body);
    } catch (error) {
      throw this.#stranger(address, "attest", session.id, error);
    }
    if (!sessions.consume(session.id, now())) {
      const taken = sessions.byId(session.id) ?? session;
      const late = new WireRefusal("AttestationError", 401, spent(taken, now()));
      throw this.#stranger(address, "attest", session.id, late);
    }
    const judgement = await this.#judge(session, request);
    return this.#conclude(session, request, judgement, `client ${address}`);
  }

  async #judge(session: Session, request: AttestRequest): Promise<Judgement> {
    const { anchors, references, now } = this.#state;
    const platform = this.#platform(session.tee);
    const checks = bindings(session, request);
    let appraisal: Appraisal;
    try {
      appraisal = await platform.verify({
        evidence: request.primaryEvidence,
        // The session's own nonce, never the one the client repeats.
        reportData: reportData(session.nonce, request.teeKey.jwk, request.additionalEvidence),
        keep: session.challenge,
        anchors: anchors.certificates(platform.platform),
        now: now(),
      });
    } catch (error) {
      // A verifier that throws has not verified anything.
      const detail = error instanceof ShelterError ? describe(error) : "the verifier failed on it";
      checks.push({ name: "evidence", ok: false, failure: "malformed", detail });
      return conclude(checks, null, [], null);
    }
    checks.push(...appraisal.verdict.checks);
    const authentic = appraisal.verdict.outcome === "accepted" && checks.every((c) => c.ok);
    if (!authentic) return conclude(checks, appraisal, [], null);
    const match = matchWorkloads(appraisal.measurements, references.ofPlatform(platform.platform));
    checks.push(match.check);
    if (match.nearestReference !== null) checks.push(...appraisal.explain(match.nearestReference));
    return conclude(checks, appraisal, match.workloads, match.nearest);
  }

  async #conclude(
    session: Session,
    request: AttestRequest,
    judgement: Judgement,
    actor: string,
  ): Promise<{ token: string }> {
    const { sessions, audit, db, key, now } = this.#state;
    const accepted = judgement.reason === null && judgement.workloads.length > 0;
    const issued = accepted
      ? await issueToken(
          key,
          {
            session: session.id,
            tee: session.tee,
            workloads: judgement.workloads,
            nonce: session.nonce,
            teeKey: request.teeKey.jwk,
            reportDataHex: toHex(reportData(session.nonce, request.teeKey.jwk, request.additionalEvidence)),
            measurements: judgement.measurements,
          },
          now(),
        )
      : null;
    const stored = db.transaction(() => {
      const kept = sessions.judged(
        session.id,
        issued ? "attested" : "refused",
        plain(judgement),
        { jwk: request.teeKey.jwk, thumbprint: request.teeKey.thumbprint },
        issued ? issued.expires : session.expires,
      );
      audit.append({
        actor,
        action: "attest",
        subject: session.id,
        outcome: issued && kept ? "ok" : "refused",
        details: {
          tee: session.tee,
          key: request.teeKey.thumbprint,
          workloads: judgement.workloads,
          outcome: judgement.outcome,
          reason: judgement.reason,
          checks: plain(judgement.checks),
        },
      });
      return kept;
    });
    if (issued && stored) return { token: issued.token };
    if (issued) throw new WireRefusal("AttestationError", 401, "session: ended by an administrator");
    const detail = this.#state.terseRefusals ? "evidence refused" : `evidence refused: ${judgement.reason}`;
    throw new WireRefusal("AttestationError", 401, `${detail} (session ${session.id.slice(0, 12)})`);
  }

  /** One resource, encrypted to the key its session attested. `path` is the raw text of the request. */
  async resource(
    path: string,
    cookie: string | undefined,
    bearer: string | undefined,
    address: string,
  ): Promise<FlattenedJwe> {
    const { sessions, audit, db, policies, resources, now } = this.#state;
    let wanted: ResourcePath;
    try {
      wanted = parseResourcePath(path);
    } catch (error) {
      const refusal = new WireRefusal("InvalidRequestPath", 404, describe(error));
      throw this.#stranger(address, "resource", "-", refusal);
    }
    const found = await this.#attested(cookie, bearer);
    if (found instanceof WireRefusal) throw this.#stranger(address, "resource", wanted, found);
    const { session, judgement } = found;
    const result = db.transaction(() => {
      const refuse = (variant: WireVariant, status: number, detail: string, reason: string) => {
        sessions.release(session.id, wanted, "refused", null, reason, now());
        audit.append({
          actor: `session ${session.id}`,
          action: "resource",
          subject: wanted,
          outcome: "refused",
          details: { reason, workloads: judgement.workloads },
        });
        return new WireRefusal(variant, status, detail);
      };
      // Reference values taken back since the evidence was judged count from now on, not from the next boot.
      const references = this.#state.references.ofPlatform(this.#platform(session.tee).platform);
      const match = matchWorkloads(judgement.measurements, references);
      if (match.workloads.length === 0) {
        return refuse(
          "PolicyDeny",
          401,
          `${NOT_GRANTED}: ${match.check.detail ?? ""}`,
          "reference values were taken back",
        );
      }
      const rule = policies.allows(match.workloads, wanted);
      if (!rule) {
        return refuse(
          "PolicyDeny",
          401,
          `${NOT_GRANTED}: no policy allows ${match.workloads.join(", ")} kbs:///${wanted}`,
          "no policy allows it",
        );
      }
      const opened = resources.open(wanted);
      if (!opened)
        return refuse(
          "ResourceNotFound",
          404,
          `resource kbs:///${wanted} does not exist`,
          "no such resource",
        );
      const jwe = encryptTo(parseTeeKey(session.teeKey ?? undefined), opened.value);
      opened.value.wipe();
      sessions.release(session.id, wanted, "released", opened.version, null, now());
      audit.append({
        actor: `session ${session.id}`,
        action: "resource",
        subject: wanted,
        outcome: "ok",
        details: {
          version: opened.version,
          key: session.thumbprint,
          workloads: match.workloads,
          rule: rule.id,
        },
      });
      return jwe;
    });
    if (result instanceof WireRefusal) throw result;
    return result;
  }

  /** The attested session behind a bearer token or a cookie, the token going first. */
  async #attested(
    cookie: string | undefined,
    bearer: string | undefined,
  ): Promise<{ session: Session; judgement: Judgement } | WireRefusal> {
    const { sessions, key, now } = this.#state;
    let session: Session | null;
    if (bearer !== undefined) {
      const reading = await readToken(key, bearer, now());
      if ("reason" in reading) return new WireRefusal("TokenVerifierError", 401, reading.reason);
      session = sessions.byId(reading.session);
    } else {
      if (cookie === undefined)
        return new WireRefusal("TokenNotFound", 401, "neither an attestation token nor a session cookie");
      session = sessions.byCookie(cookie);
    }
    if (!session) return new WireRefusal("TokenNotFound", 401, "session: unknown or expired; attest again");
    if (session.state !== "attested" || session.expires <= now()) {
      return new WireRefusal("TokenNotFound", 401, `session is ${stateAt(session, now())}; attest again`);
    }
    return { session, judgement: readJudgement(session) };
  }

  summary(session: Session): SessionSummary {
    const judgement = readJudgement(session);
    return {
      id: session.id,
      tee: session.tee,
      state: stateAt(session, this.#state.now()),
      created: session.created.toISOString(),
      expires: session.expires.toISOString(),
      address: session.address,
      workloads: judgement.workloads,
      reason: judgement.reason,
    };
  }

  /** Everything about one session. */
  explain(session: Session): SessionExplanation {
    const judgement = readJudgement(session);
    return {
      ...this.summary(session),
      outcome: session.judgement === null ? null : judgement.outcome,
      checks: judgement.checks,
      claims: judgement.claims,
      measurements: judgement.measurements,
      nearest: judgement.nearest,
      keyThumbprint: session.thumbprint,
      releases: this.#state.sessions.releases(session.id),
    };
  }
}

function spent(session: Session, now: Date): string {
  return session.expires <= now
    ? "session: expired; begin again with /auth"
    : `session-nonce: replayed, this session is already ${session.state}; begin again with /auth`;
}

function stateAt(session: Session, now: Date): SessionState {
  const living = session.state === "open" || session.state === "judging" || session.state === "attested";
  return living && session.expires <= now ? "expired" : session.state;
}
