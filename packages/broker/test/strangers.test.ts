import assert from "node:assert/strict";
import { test } from "node:test";
import { addressKey, RateLimiter } from "../src/rate-limit.ts";
import { ask } from "./support/guest.ts";
import { running } from "./support/running.ts";

test("an address is one client: IPv4 mapped into IPv6 is itself, an IPv6 network of 64 bits is one", () => {
  for (const [address, key] of [
    ["192.0.2.1", "192.0.2.1"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["::1", "::1"],
    ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
    ["2001:db8:1:2::9", "2001:db8:1:2::/64"],
    ["2001:db8::9", "2001:db8:0:0::/64"],
    ["fe80::1%eth0", "fe80:0:0:0::/64"],
  ] as const) {
    assert.equal(addressKey(address), key);
  }
});

test("a bucket gives its burst, then its rate, and forgets no more addresses than it must", () => {
  const limiter = new RateLimiter({ burst: 2, perSecond: 1 });
  assert.deepEqual(
    [0, 0, 0, 1000, 1000].map((at) => limiter.take("a", at)),
    [true, true, false, true, false],
  );
  // A clock that goes back gives nothing away and breaks nothing.
  assert.equal(limiter.take("a", -5000), false);
  for (let i = 0; i < 20_000; i++) limiter.take(`10.0.${i >> 8}.${i & 255}`, 1000);
  assert.equal(limiter.take("10.0.0.1", 1000), true);
});

test("refusals without end cost the audit log a bounded number of entries and one count", async (t) => {
  const run = await running(t, { limits: { handshakes: { burst: 10_000, perSecond: 1 } } });
  for (let round = 0; round < 10; round++) {
    await Promise.all(
      Array.from({ length: 30 }, () => ask(run.url, "/kbs/v0/attest", { method: "POST", body: "{}" })),
    );
  }
  run.broker.tick();
  const entries = await run.admin.audit(0, 10_000);
  assert.equal(entries.filter((e) => e.action === "attest").length, 200);
  const [count] = entries.filter((e) => e.action === "unrecorded");
  assert.deepEqual(count?.details, { count: 100 });
  assert.equal((await run.admin.auditVerify()).ok, true);
});
