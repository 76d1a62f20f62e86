/**
 * Refuses an import that does not point downwards: a workspace may import only what its package.json names, never a
 * path inside another workspace, and the workspaces must not form a cycle.
 */
import { globSync, readFileSync } from "node:fs";
import { dirname } from "node:path";

interface Workspace {
  readonly name: string;
  readonly folder: string;
  readonly dependencies: ReadonlySet<string>;
}

/** `import … from "x"`, `export … from "x"`, `import "x"` at the beginning of a line; `import("x")` anywhere. */
const IMPORT = /^(?:import|export)\b(?:[^"';]*?\bfrom)?\s*"([^"]+)"|\bimport\("([^"]+)"\)/gm;

const workspaces: Workspace[] = globSync(["packages/*/package.json", "apps/*/package.json"]).map((file) => {
  const json = JSON.parse(readFileSync(file, "utf8")) as {
    name: string;
    dependencies?: Record<string, string>;
  };
  return {
    name: json.name,
    folder: dirname(file),
    dependencies: new Set(Object.keys(json.dependencies ?? {})),
  };
});
const problems: string[] = [];

for (const { name, folder, dependencies } of workspaces) {
  const used = new Set<string>();
  for (const file of globSync(`${folder}/src/**/*.ts`)) {
    const text = readFileSync(file, "utf8");
    for (const match of text.matchAll(IMPORT)) {
      const target = match[1] ?? match[2] ?? "";
      if (target.startsWith("node:") || target.startsWith(".")) {
        if (/\.\.\/(\.\.\/)*(packages|apps)\//.test(target)) problems.push(`${file} reaches into ${target}`);
        continue;
      }
      const parts = target.split("/");
      const dependency = target.startsWith("@") ? parts.slice(0, 2).join("/") : (parts[0] ?? "");
      used.add(dependency);
      if (dependency === name) continue;
      if (!dependencies.has(dependency))
        problems.push(`${file} imports ${dependency}, which ${folder}/package.json does not name`);
      if (dependency.startsWith("@shelter/") && parts.length > 2)
        problems.push(`${file} imports inside ${dependency}`);
    }
  }
  for (const dependency of dependencies) {
    if (!used.has(dependency))
      problems.push(`${folder}/package.json names ${dependency}, which nothing there imports`);
  }
}

const state = new Map<string, "open" | "done">();
function visit(name: string, path: readonly string[]): void {
  if (state.get(name) === "done") return;
  if (state.get(name) === "open") {
    problems.push(`a cycle: ${[...path, name].join(" -> ")}`);
    return;
  }
  state.set(name, "open");
  const workspace = workspaces.find((w) => w.name === name);
  for (const next of workspace?.dependencies ?? [])
    if (next.startsWith("@shelter/")) visit(next, [...path, name]);
  state.set(name, "done");
}
for (const { name } of workspaces) visit(name, []);

for (const problem of problems) console.log(problem);
process.exit(problems.length > 0 ? 1 : 0);
