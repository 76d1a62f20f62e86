import { describe, type ErrorKind, type JsonObject, ShelterError } from "@shelter/base";
import { type FastifyInstance, type FastifyReply, type FastifyRequest, fastify } from "fastify";
import type { Broker } from "../broker.ts";
import { BrokerError } from "../errors.ts";
import { type Rate, RateLimiter } from "../rate-limit.ts";
import { MAX_RESOURCE } from "../state/resources.ts";
import { adminError, adminRoutes } from "./admin-routes.ts";
import { kbsError, kbsRoutes } from "./kbs-routes.ts";
import { bearerOf, rawPath } from "./read.ts";

/** One line of the log; values are never secret: no header, body or query is ever in one. */
export type LogLine = { readonly level: "info" | "warn" | "error"; readonly event: string } & JsonObject;

/** Bounds on what one address may ask. */
export interface HttpLimits {
  /** `/auth` and `/attest` together: many guests of one host share an address. */
  readonly handshakes: Rate;
  readonly resources: Rate;
  /** Admin calls with a wrong token. */
  readonly denials: Rate;
  readonly connections: number;
  /** A whole request must have arrived by then. */
  readonly requestTimeoutMs: number;
}

/** Room for 100 guests of one address at once, and 20 more each second. */
export const HTTP_LIMITS: HttpLimits = {
  handshakes: { burst: 240, perSecond: 40 },
  resources: { burst: 800, perSecond: 100 },
  denials: { burst: 20, perSecond: 1 },
  connections: 512,
  requestTimeoutMs: 20_000,
};

/** What the HTTP side is made with. */
export interface HttpOptions {
  readonly broker: Broker;
  readonly log: (line: LogLine) => void;
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer };
  readonly limits?: Partial<HttpLimits>;
}

/** The broker over HTTP; not listening yet. */
export function createApp({ broker, log, tls, limits: given }: HttpOptions): FastifyInstance {
  const limits = { ...HTTP_LIMITS, ...given };
  const app = fastify({
    logger: false,
    bodyLimit: MAX_RESOURCE,
    // A HEAD of a resource would be recorded as released to somebody who received nothing.
    exposeHeadRoutes: false,
    requestTimeout: limits.requestTimeoutMs,
    connectionTimeout: limits.requestTimeoutMs * 2,
    keepAliveTimeout: 10_000,
    forceCloseConnections: "idle",
    routerOptions: { ignoreTrailingSlash: false, caseSensitive: true, maxParamLength: 512 },
    http: {
      headersTimeout: Math.min(10_000, limits.requestTimeoutMs),
      // Node looks for late requests only so often; its own 30 s would let a dripping one live that long.
      connectionsCheckingInterval: Math.min(5_000, limits.requestTimeoutMs),
      maxHeaderSize: 128 * 1024,
    },
    // A path the router cannot even decode is one nobody can have asked for in earnest.
    frameworkErrors: (_error, request, reply: FastifyReply) => {
      const error = new BrokerError("ROUTE_UNKNOWN", "malformed", "the request path is not a valid URL path");
      reply.status(404);
      reply.send(outcome(request, error, reply));
    },
    ...(tls ? { https: { cert: tls.cert, key: tls.key, minVersion: "TLSv1.2" as const } } : {}),
  }) as FastifyInstance;
  app.server.maxConnections = limits.connections;

  // Bodies stay bytes: JSON is parsed by our own reader, which refuses duplicate keys.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("*", { parseAs: "buffer" }, (_request, body, done) => done(null, body));

  const denials = new RateLimiter(limits.denials);
  const authenticate = (request: FastifyRequest): string => {
    const token = bearerOf(request);
    const name = token === undefined ? null : broker.administration.authenticate(token);
    if (name !== null) return name;
    // The right token always works: whoever shares an address with a guesser is not locked out.
    if (!denials.take(request.ip, broker.state.now().getTime())) {
      throw new BrokerError(
        "TOO_MANY_REQUESTS",
        "unavailable",
        "too many wrong admin tokens from this address",
      );
    }
    broker.administration.denied(request.ip, request.method, rawPath(request));
    throw new BrokerError(
      "ADMIN_DENIED",
      "refused",
      token === undefined ? "no admin token" : "not an admin token of this broker",
      {
        hint: "the token is in admin.token in the broker's state directory",
      },
    );
  };
  const admins = new WeakMap<FastifyRequest, string>();
  const admin = (request: FastifyRequest): string => admins.get(request) ?? authenticate(request);
  // Before the body is read: strangers do not get to fill our memory with it.
  app.addHook("onRequest", async (request) => {
    if (isAdministrative(request.method, rawPath(request))) admins.set(request, authenticate(request));
  });

  const answer = (error: unknown, request: FastifyRequest, reply: FastifyReply) => {
    if (!(error instanceof ShelterError)) {
      const claimed = (error as { statusCode?: unknown }).statusCode;
      reply.status(typeof claimed === "number" && claimed >= 400 && claimed < 500 ? claimed : 500);
      if (reply.statusCode === 500) {
        log({
          level: "error",
          event: "failure",
          method: request.method,
          path: rawPath(request),
          message: describe(error),
        });
        // What went wrong inside is for the log, not for whoever provoked it.
        return outcome(
          request,
          new BrokerError("BROKER_FAILED", "bug", "the broker failed; its log says why"),
          reply,
        );
      }
    }
    if (error instanceof ShelterError && FAILURES.has(error.kind) && error.code !== "TOO_MANY_REQUESTS") {
      const { method } = request;
      log({ level: "error", event: "failure", method, path: rawPath(request), message: describe(error) });
    }
    return outcome(request, error, reply);
  };

  app.setErrorHandler((error, request, reply) => reply.send(answer(error, request, reply)));
  app.setNotFoundHandler((request, reply) => {
    reply.status(404);
    reply.send(outcome(request, new BrokerError("ROUTE_UNKNOWN", "usage", "no such endpoint"), reply));
  });
  let closing = false;
  app.addHook("preClose", async () => {
    closing = true;
  });
  app.addHook("onSend", async (_request, reply) => {
    // Otherwise closing would wait for a client that keeps its connection for another request.
    if (closing) reply.header("connection", "close");
  });
  app.addHook("onResponse", async (request, reply) => {
    log({
      level: reply.statusCode >= 500 ? "error" : "info",
      event: "request",
      method: request.method,
      path: rawPath(request).slice(0, 500),
      status: reply.statusCode,
      address: request.ip,
      ms: Math.round(reply.elapsedTime * 10) / 10,
    });
  });

  app.get("/healthz", () => ({ status: "ok" }));
  kbsRoutes(app, {
    broker,
    admin,
    handshakes: new RateLimiter(limits.handshakes),
    fetches: new RateLimiter(limits.resources),
  });
  adminRoutes(app, broker, admin);
  return app;
}

const FAILURES: ReadonlySet<ErrorKind> = new Set(["unavailable", "bug"]);

function isAdministrative(method: string, path: string): boolean {
  return path.startsWith("/shelter/") || (method !== "GET" && path.startsWith("/kbs/v0/resource/"));
}

function outcome(request: FastifyRequest, error: unknown, reply: FastifyReply): unknown {
  return rawPath(request).startsWith("/shelter/") ? adminError(error, reply) : kbsError(error, reply);
}
