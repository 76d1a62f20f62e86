import assert from "node:assert/strict";
import { type AddressInfo, connect, createServer } from "node:net";
import { Duplex, PassThrough } from "node:stream";
import { test } from "node:test";
import { listenForward } from "../src/index.ts";

test("joins each client with a connection of its own, both ways and both ends", async () => {
  const ports: number[] = [];
  const server = await listenForward({ address: "127.0.0.1", hostPort: 0, guestPort: 6379 }, (port) => {
    ports.push(port);
    return new PassThrough();
  });
  const { port } = server.address() as AddressInfo;
  const client = connect(port, "127.0.0.1");
  client.end("echo this");
  let text = "";
  for await (const piece of client) text += piece;
  assert.equal(text, "echo this");
  assert.deepEqual(ports, [6379]);
  server.close();
});

test("a guest's refusal resets the client, and a guest that is not up closes it", async () => {
  const refusing = await listenForward({ address: "127.0.0.1", hostPort: 0, guestPort: 1 }, () => {
    const guest = new Duplex({ read() {}, write: (_c, _e, done) => done() });
    setImmediate(() => guest.destroy(new Error("port 1 is not granted")));
    return guest;
  });
  const client = connect((refusing.address() as AddressInfo).port, "127.0.0.1");
  const error = await new Promise<NodeJS.ErrnoException>((resolve) => client.once("error", resolve));
  assert.equal(error.code, "ECONNRESET");
  refusing.close();
  const down = await listenForward({ address: "127.0.0.1", hostPort: 0, guestPort: 1 }, () => {
    throw new Error("not up");
  });
  const early = connect((down.address() as AddressInfo).port, "127.0.0.1");
  await new Promise((resolve) => early.once("close", resolve));
  down.close();
});

test("an address that is taken is an error with a way out", async () => {
  const taken = createServer();
  await new Promise<void>((resolve) => taken.listen(0, "127.0.0.1", resolve));
  const hostPort = (taken.address() as AddressInfo).port;
  await assert.rejects(
    listenForward({ address: "127.0.0.1", hostPort, guestPort: 1 }, () => new PassThrough()),
    {
      code: "PORT_BUSY",
      kind: "unavailable",
      message: `cannot listen on 127.0.0.1:${hostPort}`,
      hint: /another host port/,
    },
  );
  taken.close();
});
