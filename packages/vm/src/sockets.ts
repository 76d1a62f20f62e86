import { createServer, type Server, type Socket } from "node:net";
import { type GuestConnection, listenForward, type PortForward } from "@shelter/guest";

/** Everything one run listens on or was connected to, so that all of it can be closed at once. */
export class RunSockets {
  readonly #servers: Server[] = [];
  readonly #sockets = new Set<Socket>();

  /** Listens on a socket for the one connection QEMU makes to it. */
  async expect(path: string): Promise<{ readonly connected: Promise<Socket> }> {
    const server = createServer();
    this.#servers.push(server);
    const connected = new Promise<Socket>((resolve) => {
      server.once("connection", (socket) => {
        this.#sockets.add(socket);
        socket.on("error", () => {});
        resolve(socket);
        server.close();
      });
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(path, resolve);
    });
    return { connected };
  }

  /** Listens for the clients of a port forward. */
  async forward(forward: PortForward, connect: (port: number) => GuestConnection): Promise<void> {
    this.#servers.push(await listenForward(forward, connect));
  }

  close(): void {
    for (const server of this.#servers) server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
