/** Every check that runs no test: layers, types, lint and format, Rust format and lints. */
import { spawnSync } from "node:child_process";

const checks: readonly (readonly [string, string, readonly string[], string?])[] = [
  ["layers", process.execPath, ["tools/check-layers.ts"]],
  ["types", "node_modules/.bin/tsc", ["-p", "."]],
  ["lint and format", "node_modules/@biomejs/cli-linux-x64/biome", ["check", "--error-on-warnings", "."]],
  ["Rust format", "cargo", ["fmt", "--check"], "agent"],
  [
    "Rust lints",
    "cargo",
    ["clippy", "--quiet", "--locked", "--all-targets", "--", "-D", "warnings"],
    "agent",
  ],
  ["shell syntax", "bash", ["-n", "tools/setup.sh", "tools/guest-assets.sh", "agent/build.sh", ".ci/run"]],
];

let failures = 0;
for (const [name, command, args, cwd] of checks) {
  const begun = performance.now();
  const result = spawnSync(command, args, { cwd: cwd ?? ".", encoding: "utf8" });
  const ok = result.status === 0;
  console.log(`${ok ? "ok  " : "FAIL"} ${name} (${((performance.now() - begun) / 1000).toFixed(1)} s)`);
  if (!ok) {
    failures++;
    console.log(`${result.error?.message ?? ""}${result.stdout ?? ""}${result.stderr ?? ""}`);
  }
}
if (failures > 0) process.exit(1);
