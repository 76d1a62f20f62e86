import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import { SignJWT, UnsecuredJWT } from "jose";
import { ask, detail, Guest, variant } from "./support/guest.ts";
import { known, running } from "./support/running.ts";

const AUTH = JSON.stringify({ version: "0.4.0", tee: "tpm", "extra-params": "" });

test("tokens by any algorithm or key but ours are refused", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const { token } = await guest.handshake();
  const [head = "", body = "", signature = ""] = token.split(".");
  const header = JSON.parse(Buffer.from(head, "base64url").toString()) as { jwk: Record<string, string> };
  const claims = JSON.parse(Buffer.from(body, "base64url").toString()) as Record<string, unknown>;
  const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const own = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const jwk = { alg: "ES256", ...own.publicKey.export({ format: "jwk" }) };
  const publicBytes = Buffer.from(JSON.stringify(header.jwk));
  const flipped = Buffer.from(signature, "base64url");
  flipped[5] = (flipped[5] ?? 0) ^ 1;
  const forged: readonly [string, string][] = [
    ["alg none", new UnsecuredJWT(claims).encode()],
    ["alg none with a typ", `${encode({ alg: "none", typ: "JWT" })}.${body}.`],
    [
      "HS256 keyed with our public key",
      await new SignJWT(claims).setProtectedHeader({ alg: "HS256", typ: "JWT" }).sign(publicBytes),
    ],
    [
      "ES256 by a key in its own header",
      await new SignJWT(claims).setProtectedHeader({ alg: "ES256", typ: "JWT", jwk }).sign(own.privateKey),
    ],
    [
      "ES256 by another key under our header",
      `${head}.${body}.${(await new SignJWT(claims).setProtectedHeader({ alg: "ES256" }).sign(own.privateKey)).split(".")[2]}`,
    ],
    ["another header over our signature", `${encode({ ...header, kid: "x" })}.${body}.${signature}`],
    ["altered claims", `${head}.${encode({ ...claims, exp: 9_999_999_999 })}.${signature}`],
    ["an altered signature", `${head}.${body}.${flipped.toString("base64url")}`],
    ["an empty signature", `${head}.${body}.`],
    ["half a token", `${head}.${body}`],
    ["no token", "x"],
    ["a token of 60 KiB", `${head}.${"A".repeat(60_000)}.${signature}`],
  ];
  for (const [name, bad] of forged) {
    const answer = await guest.resource("default/key/app", { token: bad });
    assert.equal(answer.status, 401, name);
    assert.equal(variant(answer), "TokenVerifierError", name);
  }
  assert.equal((await guest.resource("default/key/app", { token })).status, 200);
});

test("a bad token is not rescued by a good cookie", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const { session } = await guest.handshake();
  assert.equal((await guest.resource("default/key/app", { cookie: session.cookie, token: "x" })).status, 401);
});

test("tricks with resource paths lead nowhere", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const { token } = await guest.handshake();
  for (const path of [
    "default/key/%61pp",
    "default%2fkey%2fapp",
    "default/key/../key/app",
    "default/./key/app",
    "default//key/app",
    "default/key/app/",
    "/default/key/app",
    "default/key/app%00",
    "default/key/app;x",
    "default/key",
    "default/key/app/x",
    "%2e%2e/%2e%2e/%2e%2e",
    "default/key/%",
    "default/key/%zz",
    "DEFAULT/key/app/..",
    "",
  ]) {
    const answer = await guest.resource(path, { token });
    assert.equal(answer.status, 404, `${path}: ${answer.status} ${answer.body.toString()}`);
  }
  for (const path of [
    "/kbs/v0/../v0/resource/default/key/app",
    "/KBS/v0/resource/default/key/app",
    "//kbs/v0/resource/default/key/app",
  ]) {
    assert.equal(
      (await ask(run.url, path, { headers: { authorization: `Bearer ${token}` } })).status,
      404,
      path,
    );
  }
  // A query is no part of the path.
  assert.equal((await guest.resource("default/key/app?x=1", { token })).status, 200);
});

test("every admin route refuses without the token, and with a guest's", async (t) => {
  const run = await running(t, { limits: { denials: { burst: 1000, perSecond: 1000 } } });
  const tpm = run.tpm();
  await known(run, tpm);
  const { token } = await new Guest(run.url, tpm).handshake();
  const routes: readonly [string, string][] = [
    ["GET", "/shelter/v1/whoami"],
    ["GET", "/shelter/v1/secrets"],
    ["PUT", "/shelter/v1/secrets/a/b/c"],
    ["DELETE", "/shelter/v1/secrets/default/key/app"],
    ["GET", "/shelter/v1/references"],
    ["POST", "/shelter/v1/references"],
    ["DELETE", "/shelter/v1/references?workload=demo"],
    ["GET", "/shelter/v1/policies"],
    ["POST", "/shelter/v1/policies"],
    ["DELETE", "/shelter/v1/policies?workload=demo&pattern=kbs:///default/key/*"],
    ["GET", "/shelter/v1/anchors"],
    ["POST", "/shelter/v1/anchors"],
    ["DELETE", "/shelter/v1/anchors/x"],
    ["GET", "/shelter/v1/sessions"],
    ["GET", "/shelter/v1/sessions/0000"],
    ["DELETE", "/shelter/v1/sessions/0000"],
    ["GET", "/shelter/v1/audit"],
    ["GET", "/shelter/v1/audit/heads"],
    ["GET", "/shelter/v1/audit/verify"],
    ["GET", "/shelter/v1/nothing"],
    ["POST", "/kbs/v0/resource/a/b/c"],
    ["DELETE", "/kbs/v0/resource/default/key/app"],
  ];
  for (const [method, path] of routes) {
    for (const bearer of [undefined, "wrong", token, `${run.token}x`]) {
      const headers = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` };
      const answer = await ask(run.url, path, {
        method,
        headers,
        ...(method.startsWith("P") ? { body: "{}" } : {}),
      });
      assert.equal(answer.status, 401, `${method} ${path}`);
    }
    const basic = { authorization: `Basic ${Buffer.from(run.token).toString("base64")}` };
    assert.equal((await ask(run.url, path, { method, headers: basic })).status, 401);
  }
  assert.equal((await run.admin.listSecrets()).length, 1);
  assert.equal((await run.admin.listPolicies()).length, 1);
  const denied = (await run.admin.audit(0, 10_000)).filter(
    (e) => e.action === "admin" && e.outcome === "refused",
  );
  assert.equal(denied.length, routes.length * 5);
});

test("wrong admin tokens are slowed down, and whoever shares their address is not locked out", async (t) => {
  const run = await running(t, { limits: { denials: { burst: 3, perSecond: 1 } } });
  const guess = () => ask(run.url, "/shelter/v1/whoami", { headers: { authorization: "Bearer guess" } });
  for (let i = 0; i < 3; i++) assert.equal((await guess()).status, 401);
  assert.equal((await guess()).status, 429);
  assert.equal((await run.admin.whoami()).admin, "admin");
  run.time.pass(1000);
  assert.equal((await guess()).status, 401);
});

test("a stranger's body is not read before it is known that anybody wants it", async (t) => {
  const run = await running(t);
  for (const head of [
    "PUT /shelter/v1/secrets/a/b/c HTTP/1.1\r\n",
    "POST /kbs/v0/resource/a/b/c HTTP/1.1\r\n",
    "POST /kbs/v0/attest HTTP/1.1\r\n",
    `POST /kbs/v0/attest HTTP/1.1\r\ncookie: kbs-session-id=${"0".repeat(32)}\r\n`,
  ]) {
    // Two megabytes are announced and never sent: the answer comes all the same.
    const { socket } = raw(run.url, `${head}host: x\r\ncontent-length: 2000000\r\n\r\n`);
    const [chunk] = (await once(socket, "data")) as [Buffer];
    assert.match(chunk.toString(), /^HTTP\/1\.1 401 /, head);
    socket.destroy();
  }
});

test("an administrator works Trustee's own way too, and never reads a secret back", async (t) => {
  const run = await running(t);
  const headers = { authorization: `Bearer ${run.token}`, "content-type": "application/octet-stream" };
  const put = await ask(run.url, "/kbs/v0/resource/default/key/two", {
    method: "POST",
    headers,
    body: Buffer.from([0, 255, 10]),
  });
  assert.equal(put.status, 200);
  assert.deepEqual(
    (await run.admin.listSecrets()).map((s) => [s.path, s.size]),
    [["default/key/two", 3]],
  );
  const read = await ask(run.url, "/kbs/v0/resource/default/key/two", { headers });
  assert.equal(read.status, 401);
  assert.equal(read.body.includes(255), false);
  assert.equal(
    (await ask(run.url, "/kbs/v0/resource/default/key/two", { method: "DELETE", headers })).status,
    200,
  );
  assert.equal(
    (await ask(run.url, "/kbs/v0/resource/default/key/two", { method: "DELETE", headers })).status,
    404,
  );
});

test("bodies past their limit are refused unread", async (t) => {
  const run = await running(t);
  const headers = { authorization: `Bearer ${run.token}` };
  const post = (path: string, size: number) =>
    ask(run.url, path, { method: "POST", body: Buffer.alloc(size, 0x20), headers });
  assert.equal((await post("/kbs/v0/auth", 64 * 1024 + 1)).status, 413);
  const open = await ask(run.url, "/kbs/v0/auth", { method: "POST", body: AUTH });
  const cookie = String(open.headers["set-cookie"]).split(";")[0] ?? "";
  const large = { method: "POST", body: Buffer.alloc(2 * 1024 * 1024 + 1, 0x20), headers: { cookie } };
  assert.equal((await ask(run.url, "/kbs/v0/attest", large)).status, 413);
  assert.equal((await post("/kbs/v0/resource/a/b/c", 2 * 1024 * 1024)).status, 200);
  assert.equal((await post("/kbs/v0/resource/a/b/c", 2 * 1024 * 1024 + 1)).status, 413);
});

test("hostile bodies of /auth are refused with a reason in Trustee's form", async (t) => {
  const run = await running(t);
  for (const [body, reason] of [
    ["", /is not JSON/],
    ["null", /not an object/],
    ['{"version":"0.4.0","version":"0.4.0","tee":"tpm"}', /"version" twice/],
    [`${"[".repeat(100)}${"]".repeat(100)}`, /deeper than 64/],
    ['{"version":"0.5.0","tee":"tpm"}', /protocol version "0\.5\.0" is not 0\.4\.0/],
    ['{"version":"0.4.0","tee":"tpm","extra-params":{"tpm":1}}', /extra-params\.tpm is not an object/],
    ['{"version":"0.4.0","tee":"tpm","extra-params":{"tpm":{}}}', /ek_certificate is missing/],
    [
      '{"version":"0.4.0","tee":"tpm","extra-params":{"tpm":{"ek_certificate":"AAAA","ak_tpm_public":"AAAA"}}}',
      /ek_certificate|DER|certificate/,
    ],
    [Buffer.from([0x22, 0xff, 0x22]), /not UTF-8/],
  ] as const) {
    const answer = await ask(run.url, "/kbs/v0/auth", { method: "POST", body });
    assert.equal(answer.status, 401, String(body));
    assert.match(detail(answer), reason);
    assert.match(variant(answer), /^(AttestationError|PluginInternalError)$/);
  }
});

test("unknown endpoints and methods are 404 in Trustee's form", async (t) => {
  const run = await running(t);
  for (const [method, path, name] of [
    ["GET", "/kbs/v0/nebula-ca/x", "PluginNotFound"],
    ["POST", "/kbs/v0/resource-policy", "PluginNotFound"],
    ["GET", "/kbs/v0/auth", "PluginNotFound"],
    ["GET", "/", "InvalidRequestPath"],
    ["PUT", "/kbs/v0/auth", "PluginNotFound"],
  ] as const) {
    const answer = await ask(run.url, path, { method });
    assert.equal(answer.status, 404, path);
    assert.equal(variant(answer), name);
  }
});

test("thousands of half-open sessions leave room for one that means it", async (t) => {
  const run = await running(t, {
    limits: { handshakes: { burst: 100_000, perSecond: 1000 } },
    sessions: { openPerAddress: 64, open: 1000 },
  });
  const tpm = run.tpm();
  await known(run, tpm);
  // Most of them begun where no request costs a sync of the disk, the last ones over HTTP.
  const { db, sessions, now } = run.broker.state;
  db.transaction(() => {
    for (let i = 0; i < 3000; i++) assert.ok(sessions.open("tpm", "nonce", null, "127.0.0.1", now()));
  });
  const answers = await Promise.all(
    Array.from({ length: 50 }, () => ask(run.url, "/kbs/v0/auth", { method: "POST", body: AUTH })),
  );
  assert.ok(answers.every((a) => a.status === 200));
  const open = (await run.admin.sessions(10_000)).filter((s) => s.state === "open");
  assert.equal(open.length, 64);
  await new Guest(run.url, tpm).handshake();
  run.time.pass(6 * 60_000);
  run.broker.tick();
  assert.equal((await run.admin.sessions(10_000)).filter((s) => s.state === "open").length, 0);
});

test("an address that asks too fast is told so, and is served again a moment later", async (t) => {
  const run = await running(t, { limits: { handshakes: { burst: 10, perSecond: 10 } } });
  const auth = () => ask(run.url, "/kbs/v0/auth", { method: "POST", body: AUTH });
  for (let i = 0; i < 10; i++) assert.equal((await auth()).status, 200);
  const answer = await auth();
  assert.equal(answer.status, 429);
  assert.equal(answer.headers["retry-after"], "1");
  run.time.pass(100);
  assert.equal((await auth()).status, 200);
});

/** A raw connection: what it received until it was closed. */
function raw(url: string, first: string): { socket: Socket; closed: Promise<string> } {
  const { port, hostname } = new URL(url);
  const socket = connect(Number(port), hostname, () => socket.write(first));
  let answer = "";
  socket.on("data", (chunk) => {
    answer += chunk.toString();
  });
  const closed = new Promise<string>((resolve) => {
    socket.on("close", () => resolve(answer));
    socket.on("error", () => resolve(answer));
  });
  return { socket, closed };
}

const HALF = `POST /kbs/v0/auth HTTP/1.1\r\nhost: x\r\ncontent-length: ${AUTH.length}\r\n\r\n{`;

test("a body that never arrives, or drips in, does not hold its connection for ever", async (t) => {
  const run = await running(t, { limits: { requestTimeoutMs: 200 } });
  const silent = raw(run.url, HALF);
  const dripping = raw(run.url, HALF);
  const drops = setInterval(() => dripping.socket.write(" "), 20);
  t.after(() => clearInterval(drops));
  assert.match(await silent.closed, /^HTTP\/1\.1 408 |^$/);
  assert.match(await dripping.closed, /^HTTP\/1\.1 (408|400|401) |^$/);
  assert.equal((await ask(run.url, "/healthz")).status, 200);
});

test("stopping lets a request in flight finish and refuses new ones", async (t) => {
  const run = await running(t);
  const { socket, closed } = raw(run.url, HALF);
  // Answered on other connections: by now the broker has read the half.
  for (let i = 0; i < 3; i++) await ask(run.url, "/healthz");
  const stopped = run.stop();
  // Refused, or reset where the kernel had already queued it.
  const late = await ask(run.url, "/healthz").then(
    (answer) => String(answer.status),
    (error: NodeJS.ErrnoException) => String(error.code),
  );
  assert.match(late, /^(ECONNREFUSED|ECONNRESET|503)$/);
  socket.write(AUTH.slice(1));
  assert.match(await closed, /^HTTP\/1\.1 200 /);
  await stopped;
});

test("with its disk full the broker releases nothing it cannot record, says why in its log, and recovers", async (t) => {
  const run = await running(t);
  const tpm = run.tpm();
  await known(run, tpm);
  const guest = new Guest(run.url, tpm);
  const { token } = await guest.handshake();
  const { db } = run.broker.state;
  const pages = Number(db.one("PRAGMA page_count")?.["page_count"]);
  db.one(`PRAGMA max_page_count = ${pages}`);
  await assert.rejects(run.admin.putSecret("kbs:///default/key/big", Buffer.alloc(100_000)), {
    code: "DATABASE_UNUSABLE",
    kind: "unavailable",
  });
  // Entries fill what is left of the last pages; then not even a release fits.
  let answer = await guest.resource("default/key/app", { token });
  for (let i = 0; answer.status === 200 && i < 200; i++)
    answer = await guest.resource("default/key/app", { token });
  assert.equal(answer.status, 503);
  assert.equal(answer.body.includes("ciphertext"), false);
  assert.match(detail(answer), /^the broker's database refuses$/);
  assert.ok(run.log.some((line) => line.event === "failure" && /disk is full/.test(String(line["message"]))));
  assert.equal((await ask(run.url, "/healthz")).status, 200);
  db.one(`PRAGMA max_page_count = ${pages * 100}`);
  assert.equal((await guest.resource("default/key/app", { token })).status, 200);
  assert.deepEqual(
    (await run.admin.listSecrets()).map((s) => s.path),
    ["default/key/app"],
  );
  assert.equal((await run.admin.auditVerify()).ok, true);
});

test("the admin client says what is wrong with where it was pointed", async (t) => {
  const run = await running(t);
  const { BrokerClient } = await import("@shelter/broker");
  await assert.rejects(new BrokerClient({ url: run.url, token: "wrong" }).whoami(), {
    code: "ADMIN_DENIED",
    kind: "refused",
  });
  await assert.rejects(run.admin.deleteSecret("kbs:///no/such/thing"), {
    code: "RESOURCE_UNKNOWN",
    kind: "usage",
    message: "secret kbs:///no/such/thing does not exist",
  });
  await assert.rejects(run.admin.explain("ffff"), { code: "SESSION_UNKNOWN" });
  await assert.rejects(run.admin.addTrustAnchor("not a certificate"), { code: "ANCHOR_MALFORMED" });
  await assert.rejects(run.admin.allow("demo", "kbs:///x"), { code: "PATTERN_MALFORMED" });
  assert.throws(() => new BrokerClient({ url: "nonsense", token: "" }), {
    code: "BROKER_UNREACHABLE",
    kind: "usage",
  });
  await run.stop();
  await assert.rejects(new BrokerClient({ url: run.url, token: run.token }).whoami(), {
    code: "BROKER_UNREACHABLE",
    kind: "unavailable",
    message: `broker at ${run.url} does not answer`,
    hint: "is shelter serve running there?",
  });
});
