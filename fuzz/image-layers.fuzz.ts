import { fuzzLayers } from "../packages/image/test/fuzz.ts";

const seconds = Number(process.argv[2] ?? 60);
const seed = Number(process.argv[3] ?? Date.now() % 2 ** 31);
const until = Date.now() + seconds * 1000;
console.log(`image layers: ${seconds} s from seed ${seed}`);
const { tried, accepted } = await fuzzLayers(seed, () => Date.now() > until);
console.log(`${tried} images, ${accepted} accepted, the rest refused by name`);
