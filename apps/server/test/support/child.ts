import { serve } from "@shelter/server";

// A broker in a process of its own, to be killed.

const stateDir = process.argv[2] ?? "";
const serving = await serve({ stateDir, listen: "127.0.0.1:0" }, { log: () => {} });
// Before it says that it is there: whoever reads that may end it at once.
process.on("SIGTERM", () => {
  serving.close().then(() => process.exit(0));
});
process.stdout.write(`${serving.url}\n`);
