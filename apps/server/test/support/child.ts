import { serve } from "@shelter/server";

// A broker in a process of its own, to be killed.

const stateDir = process.argv[2] ?? "";
const serving = await serve({ stateDir, listen: "127.0.0.1:0" }, { log: () => {} });
process.stdout.write(`${serving.url}\n`);
process.on("SIGTERM", () => {
  serving.close().then(() => process.exit(0));
});
