import { fuzz, TARGETS } from "../packages/seal/test/support/fuzz.ts";
import { Random } from "../packages/seal/test/support/random.ts";

// node fuzz/seal-documents.fuzz.ts [seconds] [seed]
const names = Object.keys(TARGETS);
const seconds = Number(process.argv[2] ?? 60) / names.length;
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31);
for (const name of names) {
  const until = Date.now() + seconds * 1000;
  const { tried, accepted } = fuzz(name, new Random(seed), () => Date.now() > until);
  console.log(`${name}: ${tried} mutants from seed ${seed}, ${accepted} accepted`);
}
