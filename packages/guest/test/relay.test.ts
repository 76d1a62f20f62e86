import assert from "node:assert/strict";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { after, test } from "node:test";
import { brokerRelay, noBroker } from "../src/index.ts";

type Handler = (request: IncomingMessage, response: ServerResponse, body: string) => void;
const servers: Server[] = [];
after(() => {
  for (const s of servers) {
    s.closeAllConnections();
    s.close();
  }
});

async function serve(handler: Handler): Promise<string> {
  const server = createServer((request, response) => {
    let body = "";
    request.on("data", (d) => {
      body += d;
    });
    request.on("end", () => handler(request, response, body));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${(server.address() as { port: number }).port}`;
}

test("carries method, path, cookie, bearer and body, and brings back status, cookie and body", async () => {
  const seen: object[] = [];
  const url = await serve((request, response, body) => {
    const { cookie, authorization } = request.headers;
    seen.push({ method: request.method, path: request.url, cookie, authorization, body });
    response.setHeader("set-cookie", "kbs-session-id=42; Path=/; HttpOnly");
    response.statusCode = 401;
    response.end("no");
  });
  const relay = brokerRelay({ url });
  const answer = await relay({
    method: "POST",
    path: "/kbs/v0/attest",
    cookie: "a=b",
    bearer: "t.o.k",
    body: Buffer.from("{}"),
  });
  assert.deepEqual(seen, [
    { method: "POST", path: "/kbs/v0/attest", cookie: "a=b", authorization: "Bearer t.o.k", body: "{}" },
  ]);
  assert.equal(answer.status, 401);
  assert.equal(answer.cookie, "kbs-session-id=42");
  assert.equal(Buffer.from(answer.body).toString(), "no");
});

test("goes nowhere but below /kbs/v0/, and follows no redirect", async () => {
  const paths: string[] = [];
  const url = await serve((request, response) => {
    paths.push(request.url ?? "");
    response.writeHead(302, { location: "/admin" });
    response.end();
  });
  const relay = brokerRelay({ url });
  await assert.rejects(relay({ method: "GET", path: "/admin" }), { code: "BROKER_PATH", kind: "refused" });
  await assert.rejects(relay({ method: "GET", path: "/kbs/v0/../admin" }), { code: "BROKER_PATH" });
  assert.equal((await relay({ method: "GET", path: "/kbs/v0/a" })).status, 302);
  assert.deepEqual(paths, ["/kbs/v0/a"]);
});

test("refuses an answer that is too long for the guest", async () => {
  const url = await serve((_request, response) => response.end(Buffer.alloc(786433)));
  await assert.rejects(brokerRelay({ url })({ method: "GET", path: "/kbs/v0/a" }), {
    code: "BROKER_ANSWER",
    message: "the broker's answer is longer than 786432 bytes",
  });
});

test("an unreachable and a silent broker are named as such", async () => {
  const url = await serve(() => {});
  const port = new URL(url).port;
  await assert.rejects(brokerRelay({ url, timeoutSeconds: 0.05 })({ method: "GET", path: "/kbs/v0/a" }), {
    code: "BROKER_UNREACHABLE",
    message: `cannot reach the broker at http://127.0.0.1:${port}: silent for 0.05 s`,
  });
  for (const s of servers.splice(0)) {
    s.closeAllConnections();
    await new Promise((resolve) => s.close(resolve));
  }
  await assert.rejects(brokerRelay({ url })({ method: "GET", path: "/kbs/v0/a" }), {
    code: "BROKER_UNREACHABLE",
    kind: "unavailable",
    message: `cannot reach the broker at http://127.0.0.1:${port}: connect ECONNREFUSED 127.0.0.1:${port}`,
  });
  await assert.rejects(noBroker()({ method: "GET", path: "/kbs/v0/a" }), { message: "no broker was given" });
});

for (const url of ["ftp://x", "nonsense", "http://x/path", "http://user@x", "http://x?q"]) {
  test(`refuses the broker address ${url}`, () => {
    assert.throws(() => brokerRelay({ url }), { code: "BROKER_URL", kind: "usage" });
  });
}

test("refuses a CA file that cannot be read", () => {
  assert.throws(() => brokerRelay({ url: "https://x", ca: "/nonexistent" }), {
    code: "BROKER_URL",
    message: "cannot read the broker's CA file /nonexistent",
  });
});
