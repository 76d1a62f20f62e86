import { type Json, parseJson } from "@shelter/base";
import type { FastifyRequest } from "fastify";
import { BrokerError } from "../errors.ts";

/** The path as it came, before anybody decoded or joined anything. */
export function rawPath(request: FastifyRequest): string {
  const url = request.raw.url ?? "";
  const query = url.indexOf("?");
  return query < 0 ? url : url.slice(0, query);
}

/** The body as UTF-8 text; other bytes are refused rather than replaced. */
export function bodyText(request: FastifyRequest): string {
  const body = request.body;
  if (!(body instanceof Uint8Array)) return "";
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch (cause) {
    throw new BrokerError("REQUEST_MALFORMED", "malformed", "the body is not UTF-8", { cause });
  }
}

/** The body as JSON without duplicate keys. */
export function bodyJson(request: FastifyRequest): Json {
  return parseJson(bodyText(request), "request body");
}

/** The token of `Authorization: Bearer …`. */
export function bearerOf(request: FastifyRequest): string | undefined {
  const match = /^Bearer +([A-Za-z0-9._~+/=-]{1,65536})$/i.exec(request.headers.authorization ?? "");
  return match?.[1];
}
