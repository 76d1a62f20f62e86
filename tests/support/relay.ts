import { createServer, type IncomingHttpHeaders, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";

/** One message on its way; the relay may change the body. */
export interface Message {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  body: Buffer;
}

/** What a hostile relay does to requests and to answers. */
export interface Mischief {
  request?(message: Message): void;
  answer?(message: Message): void;
}

/** A host between guest and broker that reads and alters what it relays. */
export class HostileRelay implements AsyncDisposable {
  mischief: Mischief = {};
  readonly #server: Server;
  readonly #broker: URL;

  private constructor(broker: string) {
    this.#broker = new URL(broker);
    this.#server = createServer((incoming, outgoing) => {
      const parts: Buffer[] = [];
      incoming.on("data", (part: Buffer) => parts.push(part));
      incoming.on("end", () => {
        const asked: Message = {
          path: incoming.url ?? "",
          headers: incoming.headers,
          body: Buffer.concat(parts),
        };
        this.mischief.request?.(asked);
        const headers = {
          ...incoming.headers,
          host: this.#broker.host,
          "content-length": String(asked.body.length),
        };
        const forward = request(
          new URL(asked.path, this.#broker),
          { method: incoming.method, headers },
          (response) => {
            const answerParts: Buffer[] = [];
            response.on("data", (part: Buffer) => answerParts.push(part));
            response.on("end", () => {
              const answer: Message = {
                path: asked.path,
                headers: response.headers,
                body: Buffer.concat(answerParts),
              };
              this.mischief.answer?.(answer);
              const { "transfer-encoding": _, ...kept } = response.headers;
              outgoing.writeHead(response.statusCode ?? 502, {
                ...kept,
                "content-length": String(answer.body.length),
              });
              outgoing.end(answer.body);
            });
          },
        );
        forward.on("error", () => outgoing.destroy());
        forward.end(asked.body);
      });
    });
  }

  static async before(broker: string): Promise<HostileRelay> {
    const relay = new HostileRelay(broker);
    await new Promise<void>((resolve) => relay.#server.listen(0, "127.0.0.1", resolve));
    return relay;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}
