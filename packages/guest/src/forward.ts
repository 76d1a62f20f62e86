import { createServer, type Server, type Socket } from "node:net";
import { GuestError } from "./errors.ts";
import type { GuestConnection } from "./request.ts";

/** A listening address of the host that leads to a port of the guest. */
export interface PortForward {
  /** `127.0.0.1` unless given. */
  readonly address: string;
  readonly hostPort: number;
  readonly guestPort: number;
}

/** Connections of one forward at once; a session has 256 streams for everything. */
const MAX_CONNECTIONS = 128;

/** Listens on the host and connects each client to the guest's port. Rejects when the address is taken. */
export async function listenForward(
  forward: PortForward,
  connect: (port: number) => GuestConnection,
): Promise<Server> {
  const server = createServer({ allowHalfOpen: true, noDelay: true }, (client) => {
    let guest: GuestConnection;
    try {
      guest = connect(forward.guestPort);
    } catch {
      client.destroy();
      return;
    }
    join(client, guest);
  });
  server.maxConnections = MAX_CONNECTIONS;
  await new Promise<void>((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) =>
      reject(
        new GuestError(
          "PORT_BUSY",
          "unavailable",
          `cannot listen on ${forward.address}:${forward.hostPort}`,
          {
            cause,
            hint: "choose another host port, or stop what listens there",
          },
        ),
      ),
    );
    server.listen({ host: forward.address, port: forward.hostPort, exclusive: true }, resolve);
  });
  server.on("error", () => {});
  return server;
}

/** Carries bytes both ways until both have ended; either end's failure is the other's reset. */
function join(client: Socket, guest: GuestConnection): void {
  client.pipe(guest);
  guest.pipe(client);
  const stop = (): void => {
    client.destroy();
    guest.destroy();
  };
  client.on("error", stop);
  guest.on("error", () => client.resetAndDestroy());
  client.on("close", () => guest.destroy());
}
