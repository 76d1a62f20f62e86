import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { BrokerError } from "../errors.ts";

/** A request of the admin client. */
export interface ClientRequest {
  readonly method: string;
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: Uint8Array;
  /** PEM certificates to trust instead of the system's. */
  readonly ca?: string;
  readonly timeoutMs: number;
}

const MAX_ANSWER = 64 * 1024 * 1024; // an audit export is the largest answer there is

/** Sends one request and reads the whole answer. */
export function send(request: ClientRequest): Promise<{ status: number; body: Buffer }> {
  const open = request.url.protocol === "https:" ? httpsRequest : httpRequest;
  const unreachable = (cause: unknown) =>
    new BrokerError("BROKER_UNREACHABLE", "unavailable", `broker at ${request.url.origin} does not answer`, {
      cause,
      hint: "is shelter serve running there?",
    });
  return new Promise((resolve, reject) => {
    const outgoing = open(
      request.url,
      {
        method: request.method,
        headers: {
          ...request.headers,
          ...(request.body ? { "content-length": request.body.byteLength } : {}),
        },
        timeout: request.timeoutMs,
        agent: false,
        ...(request.ca === undefined ? {} : { ca: request.ca }),
      },
      (answer) => {
        const chunks: Buffer[] = [];
        let size = 0;
        answer.on("data", (chunk: Buffer) => {
          size += chunk.byteLength;
          if (size > MAX_ANSWER) {
            outgoing.destroy(new Error(`answer is longer than ${MAX_ANSWER} bytes`));
            return;
          }
          chunks.push(chunk);
        });
        answer.on("end", () => resolve({ status: answer.statusCode ?? 0, body: Buffer.concat(chunks) }));
        answer.on("error", (error) => reject(unreachable(error)));
      },
    );
    outgoing.on("timeout", () => outgoing.destroy(new Error(`no answer in ${request.timeoutMs} ms`)));
    outgoing.on("error", (error) => reject(unreachable(error)));
    outgoing.end(request.body);
  });
}
