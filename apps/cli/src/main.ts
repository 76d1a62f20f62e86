/** Entry of the `shelter` command: compile cache first, so that later starts skip stripping types. */
import { enableCompileCache } from "node:module";
import { join } from "node:path";
import { stateDirectory } from "@shelter/base";

try {
  enableCompileCache(join(stateDirectory(), "cache"));
} catch {
  // Without a place for it the command is slower and otherwise the same.
}
const { main } = await import("./program.ts");
await main(process.argv);
