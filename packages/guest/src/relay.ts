import { readFileSync } from "node:fs";
import type { Agent, ClientRequest, RequestOptions } from "node:http";
import schema from "../../../schema/agent-protocol.json" with { type: "json" };
import { GuestError } from "./errors.ts";
import { isBrokerPath } from "./messages.ts";
import type { Relay, RelayRequest, RelayResponse } from "./request.ts";

/** Largest answer a broker may give: what one control message carries. */
const MAX_BODY: number = schema.messages.guest.http.body.max;
/** Seconds without a byte before a broker counts as silent. */
const DEFAULT_TIMEOUT = 30;

/** Where the broker is and how to trust it. */
export interface BrokerOptions {
  /** `http://HOST[:PORT]` or `https://…`, without a path. */
  readonly url: string;
  /** PEM file of the authorities trusted for its TLS certificate, instead of the system's. */
  readonly ca?: string | undefined;
  readonly timeoutSeconds?: number | undefined;
}

/**
 * Carries a guest's requests to its broker and nowhere else: only paths below `/kbs/v0/`, no redirects
 * followed, bodies and time bounded. What passes is either public or encrypted to the guest.
 */
export function brokerRelay(options: BrokerOptions): Relay {
  const base = parseUrl(options.url);
  const secure = base.protocol === "https:";
  let ca: Buffer | undefined;
  if (options.ca !== undefined) {
    try {
      ca = readFileSync(options.ca);
    } catch (cause) {
      throw new GuestError("BROKER_URL", "usage", `cannot read the broker's CA file ${options.ca}`, {
        cause,
      });
    }
  }
  const timeout = (options.timeoutSeconds ?? DEFAULT_TIMEOUT) * 1000;
  let client: Promise<HttpClient> | undefined;

  return async (request: RelayRequest): Promise<RelayResponse> => {
    client ??= secure ? httpsClient(ca) : httpClient();
    const { send, agent } = await client;
    return await new Promise((resolve, reject) => {
      if (!isBrokerPath(request.path)) {
        return reject(
          new GuestError("BROKER_PATH", "refused", "the guest asked for a path outside /kbs/v0/"),
        );
      }
      const fail = (cause: unknown): void => {
        if (cause instanceof GuestError) {
          reject(cause);
          return;
        }
        const code = (cause as { code?: unknown }).code;
        const why = cause instanceof Error && cause.message !== "" ? cause.message : String(code);
        reject(
          new GuestError(
            "BROKER_UNREACHABLE",
            "unavailable",
            `cannot reach the broker at ${base.origin}: ${why}`,
          ),
        );
      };
      const body = request.body ?? new Uint8Array();
      const outgoing = send(
        {
          protocol: base.protocol,
          hostname: base.hostname.replace(/^\[|\]$/g, ""),
          port: base.port,
          method: request.method,
          path: request.path,
          agent,
          timeout,
          headers: {
            accept: "application/json",
            ...(request.cookie === undefined ? {} : { cookie: request.cookie }),
            ...(request.bearer === undefined ? {} : { authorization: `Bearer ${request.bearer}` }),
            ...(request.body === undefined ? {} : { "content-type": "application/json" }),
            "content-length": body.byteLength,
          },
        },
        (response) => {
          const parts: Buffer[] = [];
          let length = 0;
          response.on("data", (part: Buffer) => {
            length += part.length;
            if (length > MAX_BODY) {
              outgoing.destroy();
              return reject(
                new GuestError(
                  "BROKER_ANSWER",
                  "malformed",
                  `the broker's answer is longer than ${MAX_BODY} bytes`,
                ),
              );
            }
            parts.push(part);
          });
          response.on("error", fail);
          response.on("end", () =>
            resolve({
              status: response.statusCode ?? 0,
              cookie: cookiesOf(response.headers["set-cookie"]),
              body: Buffer.concat(parts, length),
            }),
          );
        },
      );
      // One bound for silence and one for the whole: a broker that drips a byte a second is no broker.
      const whole = setTimeout(() => outgoing.destroy(new Error("no answer in time")), timeout * 2);
      outgoing.on("timeout", () => outgoing.destroy(new Error(`silent for ${timeout / 1000} s`)));
      outgoing.on("error", fail);
      outgoing.on("close", () => clearTimeout(whole));
      outgoing.end(body);
    });
  };
}

interface HttpClient {
  readonly send: (
    options: RequestOptions,
    answer: (response: import("node:http").IncomingMessage) => void,
  ) => ClientRequest;
  readonly agent: Agent;
}

// Loaded when a guest first asks: the HTTP and TLS stacks are a good part of what an idle instance would hold.
async function httpClient(): Promise<HttpClient> {
  const { Agent, request } = await import("node:http");
  return { send: request, agent: new Agent({ keepAlive: true }) };
}

async function httpsClient(ca: Buffer | undefined): Promise<HttpClient> {
  const { Agent, request } = await import("node:https");
  return { send: request, agent: new Agent({ keepAlive: true, ca }) };
}

/** A relay for runs without a broker. */
export function noBroker(): Relay {
  return () =>
    Promise.reject(
      new GuestError("BROKER_UNREACHABLE", "unavailable", "no broker was given", {
        hint: "give one with --broker URL",
      }),
    );
}

function parseUrl(text: string): URL {
  let url: URL;
  try {
    url = new URL(text);
  } catch (cause) {
    throw new GuestError("BROKER_URL", "usage", `the broker's address ${JSON.stringify(text)} is not a URL`, {
      cause,
    });
  }
  const plain = url.pathname === "/" && url.search === "" && url.hash === "" && url.username === "";
  if (!["http:", "https:"].includes(url.protocol) || !plain) {
    throw new GuestError("BROKER_URL", "usage", `the broker's address ${text} is not http(s)://HOST[:PORT]`);
  }
  return url;
}

/** What a `Cookie` header would carry back: names and values without their attributes. */
function cookiesOf(set: readonly string[] | undefined): string | undefined {
  if (set === undefined || set.length === 0) return undefined;
  const pairs = set.map((c) => (c.split(";", 1)[0] as string).trim()).join("; ");
  return pairs === "" ? undefined : pairs.slice(0, 4096);
}
