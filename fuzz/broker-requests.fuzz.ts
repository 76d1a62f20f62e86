import { freshSeed, fuzzRequests } from "../packages/broker/test/support/fuzz.ts";

const seconds = Number(process.argv[2] ?? 60);
const seed = Number(process.argv[3] ?? freshSeed());
const until = Date.now() + seconds * 1000;
console.log(`broker requests: ${seconds} s from seed ${seed}`);
console.log(JSON.stringify(await fuzzRequests(seed, () => Date.now() > until)));
