import {
  describe,
  type ErrorKind,
  fromBase64,
  type Json,
  type JsonObject,
  ShelterError,
} from "@shelter/base";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { unknownSession } from "../administration.ts";
import type { Broker } from "../broker.ts";
import { BrokerError } from "../errors.ts";
import { bodyJson, rawPath } from "./read.ts";

const SECRETS = "/shelter/v1/secrets/";
const MAX_ROWS = 10_000;

/** The administrator's surface under `/shelter/v1`: every route asks who is there before anything else. */
export function adminRoutes(
  app: FastifyInstance,
  broker: Broker,
  admin: (request: FastifyRequest) => string,
): void {
  const { administration: a, attestation, state } = broker;
  const query = (request: FastifyRequest) => new URL(request.raw.url ?? "", "http://localhost").searchParams;

  app.get("/shelter/v1/whoami", (request) => a.whoami(admin(request)));

  app.get("/shelter/v1/secrets", (request) => {
    admin(request);
    return a.listSecrets();
  });
  app.put(`${SECRETS}*`, (request) => {
    const who = admin(request);
    const body = request.body;
    return a.putSecret(
      who,
      rawPath(request).slice(SECRETS.length),
      body instanceof Uint8Array ? body : new Uint8Array(0),
    );
  });
  app.delete(`${SECRETS}*`, (request) => {
    a.deleteSecret(admin(request), rawPath(request).slice(SECRETS.length));
    return {};
  });

  app.get("/shelter/v1/references", (request) => {
    admin(request);
    return a.listReferences(query(request).get("workload") ?? undefined);
  });
  app.post("/shelter/v1/references", (request) => a.putReference(admin(request), bodyJson(request)));
  app.delete("/shelter/v1/references", (request) => {
    const who = admin(request);
    const asked = query(request);
    const id = asked.get("id");
    const which =
      id === null
        ? { workload: asked.get("workload") ?? "", image: asked.get("image") }
        : { id: count(id, "id", Number.MAX_SAFE_INTEGER) };
    return { removed: a.deleteReference(who, which) };
  });

  app.get("/shelter/v1/policies", (request) => {
    admin(request);
    return a.listPolicies();
  });
  app.post("/shelter/v1/policies", (request) => {
    const who = admin(request);
    const body = object(bodyJson(request));
    return a.allow(who, body["workload"], body["pattern"]);
  });
  app.delete("/shelter/v1/policies", (request) => {
    const who = admin(request);
    const asked = query(request);
    a.revoke(who, asked.get("workload") ?? "", asked.get("pattern") ?? "");
    return {};
  });

  app.get("/shelter/v1/anchors", (request) => {
    admin(request);
    return a.listTrustAnchors();
  });
  app.post("/shelter/v1/anchors", (request) => {
    const who = admin(request);
    const body = object(bodyJson(request));
    return a.addTrustAnchor(who, body["platform"], fromBase64(String(body["certificate"])));
  });
  app.delete("/shelter/v1/anchors/:id", (request) => {
    return { id: a.deleteTrustAnchor(admin(request), (request.params as { id: string }).id) };
  });

  app.get("/shelter/v1/sessions", (request) => {
    admin(request);
    const limit = count(query(request).get("limit") ?? "50", "limit", MAX_ROWS);
    return state.sessions.latest(limit).map((session) => attestation.summary(session));
  });
  app.get("/shelter/v1/sessions/:id", (request) => {
    admin(request);
    const { id } = request.params as { id: string };
    const session = state.sessions.byPrefix(id);
    if (!session) throw unknownSession(id);
    return attestation.explain(session);
  });
  app.delete("/shelter/v1/sessions/:id", (request) => ({
    id: a.revokeSession(admin(request), (request.params as { id: string }).id),
  }));

  app.get("/shelter/v1/audit", (request) => {
    admin(request);
    const asked = query(request);
    const tail = asked.get("tail");
    if (tail !== null) return state.audit.tail(count(tail, "tail", MAX_ROWS));
    const after = count(asked.get("after") ?? "0", "after", Number.MAX_SAFE_INTEGER);
    return state.audit.entries(after, count(asked.get("limit") ?? "1000", "limit", MAX_ROWS));
  });
  app.get("/shelter/v1/audit/heads", (request) => {
    admin(request);
    return state.audit.heads();
  });
  app.get("/shelter/v1/audit/verify", (request) => {
    admin(request);
    return a.auditVerify();
  });

  app.all("/shelter/*", (request) => {
    admin(request);
    throw new BrokerError(
      "ROUTE_UNKNOWN",
      "usage",
      `no ${request.method} ${rawPath(request).slice(0, 200)} here`,
    );
  });
}

function object(value: Json): JsonObject {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    throw new BrokerError("REQUEST_MALFORMED", "malformed", "request body is not an object");
  }
  return value as JsonObject;
}

function count(text: string, name: string, most: number): number {
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (!(value <= most)) {
    throw new BrokerError(
      "REQUEST_MALFORMED",
      "malformed",
      `${name} ${JSON.stringify(text.slice(0, 40))} is not a number up to ${most}`,
    );
  }
  return value;
}

const STATUS: Readonly<Record<ErrorKind, number>> = {
  usage: 404,
  malformed: 400,
  refused: 403,
  unavailable: 503,
  bug: 500,
};

/** An error for the administrator's client. */
export function adminError(error: unknown, reply: FastifyReply): Json {
  if (error instanceof ShelterError) {
    const own =
      error.code === "ADMIN_DENIED" ? 401 : error.code === "TOO_MANY_REQUESTS" ? 429 : STATUS[error.kind];
    reply.status(own);
    return {
      code: error.code,
      kind: error.kind,
      message: error.message,
      ...(error.hint === undefined ? {} : { hint: error.hint }),
    };
  }
  const kind = reply.statusCode >= 500 ? "bug" : "malformed";
  return { code: "REQUEST_MALFORMED", kind, message: describe(error) };
}
