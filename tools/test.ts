/** Runs every test: the agent's (cargo), then all of TypeScript's, and ends with the runner's own summary. */
import { spawnSync } from "node:child_process";
import { availableParallelism } from "node:os";

const only = process.argv.slice(2);

function run(command: string, args: readonly string[], cwd = "."): void {
  const result = spawnSync(command, args, { cwd, stdio: "inherit" });
  if (result.error !== undefined) {
    console.error(`cannot run ${command}: ${result.error.message}`);
    process.exit(1);
  }
  if (result.status !== 0) process.exit(result.status ?? 1);
}

if (only.length === 0) run("cargo", ["test", "--quiet", "--locked"], "agent");
run(process.execPath, [
  "--disable-warning=ExperimentalWarning",
  "--test",
  `--test-concurrency=${availableParallelism()}`,
  ...(only.length > 0
    ? only
    : ["packages/*/test/**/*.test.ts", "apps/*/test/**/*.test.ts", "tests/**/*.test.ts"]),
]);
