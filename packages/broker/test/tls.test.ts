import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { Broker, BrokerClient, createApp } from "@shelter/broker";
import { issue, subjectName } from "./support/certificates.ts";
import { authority } from "./support/running.ts";
import { clock, scratch } from "./support/scratch.ts";

const pem = (der: Buffer) =>
  `-----BEGIN CERTIFICATE-----\n${der.toString("base64").replace(/.{64}/g, "$&\n")}\n-----END CERTIFICATE-----\n`;

test("over TLS the client trusts the authority it is given, and no other", async (t) => {
  const ca = authority("test TLS root");
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const cert = pem(
    issue({
      subject: subjectName("localhost"),
      public: pair.publicKey,
      issuer: ca.issuer,
      from: new Date("2025-01-01T00:00:00Z"),
      to: new Date("2045-01-01T00:00:00Z"),
      kind: "tls",
    }),
  );
  let close = async () => {};
  const dir = join(
    scratch(t, () => close()),
    "state",
  );
  const broker = Broker.open({ stateDir: dir, platforms: [], now: clock().now });
  const key = pair.privateKey.export({ format: "pem", type: "pkcs8" });
  const app = createApp({ broker, log: () => {}, tls: { cert, key } });
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  close = async () => {
    await app.close();
    broker.close();
  };
  assert.match(url, /^https:/);
  const token = readFileSync(join(dir, "admin.token"), "utf8");
  assert.equal((await new BrokerClient({ url, token, ca: pem(ca.certificate) }).whoami()).admin, "admin");
  for (const options of [
    { url, token },
    { url, token, ca: pem(authority("test TLS root").certificate) },
  ]) {
    await assert.rejects(new BrokerClient(options).whoami(), { code: "BROKER_UNREACHABLE" });
  }
  const plain = new BrokerClient({ url: url.replace("https", "http"), token });
  await assert.rejects(plain.whoami(), { code: "BROKER_UNREACHABLE" });
});
