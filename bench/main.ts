/** `npm run bench -- NAME…`: each figure is a ratio against a peer measured in the same run. */
import { globSync } from "node:fs";
import { basename } from "node:path";

const names = globSync("bench/*.ts", { cwd: `${import.meta.dirname}/..` })
  .map((file) => basename(file, ".ts"))
  .filter((name) => name !== "main")
  .sort();
const wanted = process.argv.slice(2);
if (wanted.length === 0 || wanted.some((name) => !names.includes(name))) {
  console.error(`usage: npm run bench -- NAME…   with NAME one of: ${names.join(", ")}`);
  process.exit(2);
}
for (const name of wanted) {
  const { run } = (await import(`./${name}.ts`)) as { run: () => Promise<void> };
  console.log(`== ${name}`);
  await run();
}
