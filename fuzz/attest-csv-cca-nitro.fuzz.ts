import { everyBit, fuzz } from "../packages/attest/test/csv-cca-nitro-fuzz.ts";

/** node fuzz/attest-csv-cca-nitro.fuzz.ts [seconds a target] [seed] [TARGET…], or with `bits` instead of seconds. */
const all = ["csv v1", "csv v2", "csv chain", "cca 1", "cca 2", "nitro"];
const named = process.argv.slice(4);
const targets = named.length > 0 ? named : all;

if (process.argv[2] === "bits") {
  for (const name of targets) {
    const accepted = everyBit(name);
    console.log(`${name}: every bit flipped, ${accepted.length} accepted: ${ranges(accepted)}`);
  }
} else {
  const seconds = Number(process.argv[2] ?? 60);
  const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31);
  for (const name of targets) {
    const until = Date.now() + seconds * 1000;
    console.log(`${name}: ${seconds} s from seed ${seed}`);
    const { tried, accepted } = fuzz(name, seed, () => Date.now() > until);
    console.log(`${tried} mutants, ${accepted} accepted with everything signed unchanged`);
  }
}

/** Accepted bits as byte ranges. */
function ranges(bits: readonly number[]): string {
  const bytes = [...new Set(bits.map((b) => b >> 3))];
  const out: string[] = [];
  for (let i = 0; i < bytes.length; ) {
    let j = i;
    while (bytes[j + 1] === (bytes[j] ?? 0) + 1) j++;
    out.push(i === j ? `${bytes[i]}` : `${bytes[i]}-${bytes[j]}`);
    i = j + 1;
  }
  return out.join(", ") || "none";
}
