import { boundSize, flipEveryBit, fuzzTarget, sgxTarget } from "../packages/attest/test/snp-fuzz.ts";

const seconds = Number(process.argv[2] ?? 60);
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31);
const target = sgxTarget();
const flipped = flipEveryBit(target, "quote", 0, boundSize(target.files["quote"] ?? new Uint8Array()));
console.log(`attest sgx: ${flipped} single bits flipped, none accepted`);
console.log(`attest sgx: ${seconds} s from seed ${seed}`);
const until = Date.now() + seconds * 1000;
console.log(JSON.stringify(fuzzTarget(target, seed, () => Date.now() > until)));
