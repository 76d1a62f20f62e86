import assert from "node:assert/strict";
import { test } from "node:test";
import { BootClock } from "../src/boot-watch.ts";

/** Seconds after which a machine that uses `share` of a CPU is given up; null when it is not within `seconds`. */
function givenUp(clock: BootClock, share: number, seconds: number): number | null {
  for (let now = 1; now <= seconds; now++) {
    if (clock.hangs({ now, cpu: now * share })) return now;
  }
  return null;
}

const START = { now: 0, cpu: 0 };

test("a machine that spins without a step is given up after its limit", () => {
  assert.equal(givenUp(new BootClock("tcg", null, START), 1, 1000), 90);
  assert.equal(givenUp(new BootClock("kvm", null, START), 1, 1000), 30);
});

test("a machine that waits for nothing is given up at the limit too", () => {
  assert.equal(givenUp(new BootClock("tcg", null, START), 0.01, 1000), 90);
});

test("a machine on a busy host gets the time its share of a CPU needs", () => {
  assert.equal(givenUp(new BootClock("tcg", null, START), 0.2, 449), null);
  assert.equal(givenUp(new BootClock("tcg", null, START), 0.2, 1000), 450);
});

test("each step begins the limit anew, unless the person gave one", () => {
  const clock = new BootClock("tcg", null, START);
  assert.equal(givenUp(clock, 1, 80), null);
  clock.progress({ now: 80, cpu: 80 });
  assert.equal(clock.hangs({ now: 169, cpu: 169 }), false);
  assert.equal(clock.hangs({ now: 170, cpu: 170 }), true);
  const strict = new BootClock("tcg", 5, START);
  strict.progress({ now: 4, cpu: 4 });
  assert.equal(strict.hangs({ now: 4.9, cpu: 0.1 }), false);
  assert.equal(strict.hangs({ now: 5, cpu: 0.1 }), true);
});
