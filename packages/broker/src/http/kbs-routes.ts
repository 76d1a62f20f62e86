import { describe, type Json } from "@shelter/base";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { WireRefusal } from "../attestation.ts";
import type { Broker } from "../broker.ts";
import { BrokerError } from "../errors.ts";
import type { RateLimiter } from "../rate-limit.ts";
import { bearerOf, bodyText, rawPath } from "./read.ts";

const ERRORS = "https://github.com/confidential-containers/kbs/errors";
const COOKIE = "kbs-session-id";
const RESOURCE = "/kbs/v0/resource/";

/** What the routes need besides the broker. */
export interface KbsRoutes {
  readonly broker: Broker;
  readonly handshakes: RateLimiter;
  readonly fetches: RateLimiter;
  /** The administrator of a request, or an error. */
  readonly admin: (request: FastifyRequest) => string;
}

/** Trustee's wire protocol under `/kbs/v0`. */
export function kbsRoutes(app: FastifyInstance, { broker, handshakes, fetches, admin }: KbsRoutes): void {
  const { attestation, administration, state } = broker;

  const paced = async (request: FastifyRequest) => limit(handshakes, request, state.now());
  // Before the body is read, which is up to 2 MiB of a stranger's.
  const admitted = async (request: FastifyRequest) => {
    await paced(request);
    attestation.admit(cookieOf(request), request.ip);
  };

  app.post("/kbs/v0/auth", { bodyLimit: 64 * 1024, onRequest: paced }, (request, reply) => {
    const { cookie, expires, challenge } = attestation.auth(bodyText(request), request.ip);
    return reply
      .header(
        "set-cookie",
        `${COOKIE}=${cookie}; Path=/; HttpOnly; SameSite=Strict; Expires=${expires.toUTCString()}`,
      )
      .send(challenge);
  });

  app.post("/kbs/v0/attest", { onRequest: admitted }, async (request, reply) => {
    return reply.send(await attestation.attest(cookieOf(request), bodyText(request), request.ip));
  });

  app.get(`${RESOURCE}*`, async (request, reply) => {
    limit(fetches, request, state.now());
    const jwe = await attestation.resource(
      resourceOf(request),
      cookieOf(request),
      bearerOf(request),
      request.ip,
    );
    return reply.header("cache-control", "no-store").send(jwe);
  });

  app.post(`${RESOURCE}*`, (request, reply) => {
    const body = request.body;
    administration.putSecret(
      admin(request),
      resourceOf(request),
      body instanceof Uint8Array ? body : new Uint8Array(0),
    );
    return reply.send();
  });

  app.delete(`${RESOURCE}*`, (request, reply) => {
    administration.deleteSecret(admin(request), resourceOf(request));
    return reply.send();
  });

  app.all("/kbs/v0/*", () => {
    throw new WireRefusal("PluginNotFound", 404, "this broker has no such endpoint");
  });
}

/** The raw text behind the prefix: percent signs, dots and slashes as they came, decoded by nobody. */
function resourceOf(request: FastifyRequest): string {
  return rawPath(request).slice(RESOURCE.length);
}

function limit(limiter: RateLimiter, request: FastifyRequest, now: Date): void {
  if (!limiter.take(request.ip, now.getTime())) {
    throw new BrokerError(
      "TOO_MANY_REQUESTS",
      "unavailable",
      "too many requests from this address, try again in a second",
    );
  }
}

/** The session cookie; two of them are none, since two readers could take different ones. */
function cookieOf(request: FastifyRequest): string | undefined {
  const found = (request.headers.cookie ?? "")
    .split(";")
    .map((part) => part.trim())
    .filter((part) => part.startsWith(`${COOKIE}=`))
    .map((part) => part.slice(COOKIE.length + 1));
  const [only, ...more] = found;
  return only !== undefined && more.length === 0 && /^[0-9a-f]{32}$/.test(only) ? only : undefined;
}

/** An error in the form Trustee's clients read. */
export function kbsError(error: unknown, reply: FastifyReply): Json {
  if (error instanceof WireRefusal) {
    reply.status(error.status);
    return { type: `${ERRORS}/${error.code}`, detail: error.message };
  }
  if (error instanceof BrokerError) {
    const [status, variant] = WIRE[error.code] ?? [401, "PluginInternalError"];
    reply.status(status);
    if (status === 429) reply.header("retry-after", "1");
    return { type: `${ERRORS}/${variant}`, detail: error.message };
  }
  return {
    type: `${ERRORS}/${reply.statusCode === 413 ? "PayloadTooLarge" : "InvalidRequest"}`,
    detail: describe(error),
  };
}

const WIRE: Readonly<Partial<Record<string, readonly [number, string]>>> = {
  BROKER_FAILED: [500, "InternalError"],
  DATABASE_UNUSABLE: [503, "InternalError"],
  ADMIN_DENIED: [401, "AdminAuthAccess"],
  RESOURCE_PATH: [404, "InvalidRequestPath"],
  RESOURCE_UNKNOWN: [404, "ResourceNotFound"],
  RESOURCE_TOO_LARGE: [413, "PayloadTooLarge"],
  TOO_MANY_REQUESTS: [429, "TooManyRequests"],
  ROUTE_UNKNOWN: [404, "InvalidRequestPath"],
};
