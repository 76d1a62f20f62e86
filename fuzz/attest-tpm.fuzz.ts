import { everyAzureBit, fuzz, TARGETS } from "../packages/attest/test/tpm-fuzz.ts";

// node fuzz/attest-tpm.fuzz.ts [seconds] [seed]: certificates, TPM structures, event logs, Azure, detection.
// node fuzz/attest-tpm.fuzz.ts bits: every bit of one Azure sample.
if (process.argv[2] === "bits") {
  for (const [role, bytes] of Object.entries(everyAzureBit())) {
    console.log(`${role}: accepted with a change in bytes ${bytes.join(", ") || "none"}`);
  }
  process.exit(0);
}

const names = Object.keys(TARGETS);
const seconds = Number(process.argv[2] ?? 60) / names.length;
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31);
for (const name of names) {
  const until = Date.now() + seconds * 1000;
  console.log(`${name}: ${seconds.toFixed(1)} s from seed ${seed}`);
  let slowest = 0;
  let before = Date.now();
  const { tried, accepted } = fuzz(name, seed, () => {
    const now = Date.now();
    slowest = Math.max(slowest, now - before);
    before = now;
    return now > until;
  });
  const memory = Math.round(process.memoryUsage().rss / 2 ** 20);
  console.log(`${tried} mutants, ${accepted} accepted, slowest ${slowest} ms, ${memory} MiB`);
}
