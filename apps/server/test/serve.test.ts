import assert from "node:assert/strict";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { serve } from "@shelter/server";

function state(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "shelter-server-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return join(path, "state");
}

const quiet = { log: () => {} };

test("listens on loopback, says where and where the token is, and can be closed twice", async (t) => {
  const stateDir = state(t);
  const lines: Record<string, unknown>[] = [];
  const serving = await serve({ stateDir, listen: "127.0.0.1:0" }, { log: (line) => lines.push(line) });
  assert.match(serving.url, /^http:\/\/127\.0\.0\.1:\d+$/);
  const status = await new Promise((resolve, reject) => {
    get(`${serving.url}/healthz`, (answer) => resolve(answer.resume().statusCode)).on("error", reject);
  });
  assert.equal(status, 200);
  await Promise.all([serving.close(), serving.close()]);
  const [first] = lines;
  assert.equal(first?.["event"], "listening");
  assert.equal(first?.["url"], serving.url);
  assert.equal(first?.["adminTokenFile"], join(stateDir, "admin.token"));
  assert.equal(first?.["newAdminToken"], true);
  assert.equal(JSON.stringify(lines).includes("shelter_"), false);
});

for (const listen of [
  "0.0.0.0:0",
  "[::]:0",
  "192.0.2.1:8080",
  "example.org:8080",
  "127.0.0.1.example.org:80",
]) {
  test(`refuses to listen on ${listen} without TLS, and leaves nothing behind`, async (t) => {
    const stateDir = state(t);
    await assert.rejects(serve({ stateDir, listen }, quiet), {
      code: "LISTEN_REFUSED",
      kind: "usage",
      hint: /--tls-cert/,
    });
    assert.equal(existsSync(stateDir), false);
  });
}

for (const listen of ["", "8080", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:http", "::1:8080"]) {
  test(`refuses ${JSON.stringify(listen)} as an address`, async (t) => {
    await assert.rejects(serve({ stateDir: state(t), listen }, quiet), {
      code: "LISTEN_REFUSED",
      message: /is not HOST:PORT/,
    });
  });
}

test("a port that is taken is unavailable, and the broker can be started again elsewhere", async (t) => {
  const stateDir = state(t);
  const first = await serve({ stateDir, listen: "127.0.0.1:0" }, quiet);
  const listen = first.url.slice("http://".length);
  await assert.rejects(serve({ stateDir: state(t), listen }, quiet), {
    code: "LISTEN_FAILED",
    kind: "unavailable",
  });
  await first.close();
  await (await serve({ stateDir, listen }, quiet)).close();
});

test("half of the TLS material, or files that are none, are named", async (t) => {
  const stateDir = state(t);
  await assert.rejects(serve({ stateDir, listen: "0.0.0.0:0", tlsCert: "x" }, quiet), {
    code: "TLS_MATERIAL",
  });
  await assert.rejects(serve({ stateDir, listen: "0.0.0.0:0", tlsCert: "/none", tlsKey: "/none" }, quiet), {
    code: "TLS_MATERIAL",
    message: /\/none/,
  });
  const file = join(mkdtempSync(join(tmpdir(), "shelter-server-")), "not.pem");
  t.after(() => rmSync(join(file, ".."), { recursive: true }));
  writeFileSync(file, "not a certificate");
  await assert.rejects(serve({ stateDir, listen: "0.0.0.0:0", tlsCert: file, tlsKey: file }, quiet), {
    code: "TLS_MATERIAL",
  });
});
