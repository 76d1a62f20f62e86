import { flipEveryBit, fuzzTarget, snpTarget } from "../packages/attest/test/snp-fuzz.ts";

const seconds = Number(process.argv[2] ?? 60);
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31);
const target = snpTarget();
const flipped = flipEveryBit(target, "report", 0, 1184);
console.log(`attest snp: ${flipped} single bits flipped, none accepted`);
console.log(`attest snp: ${seconds} s from seed ${seed}`);
const until = Date.now() + seconds * 1000;
console.log(JSON.stringify(fuzzTarget(target, seed, () => Date.now() > until)));
