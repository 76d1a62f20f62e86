import { stateDirectory } from "@shelter/base";
import { findInstance, readLogs } from "@shelter/vm";

interface LogsOptions {
  readonly follow?: boolean;
  readonly tail?: number;
  readonly timestamps?: boolean;
  readonly json?: boolean;
}

/** `shelter logs`: what an instance wrote, each stream to its own. */
export async function logs(name: string, options: LogsOptions): Promise<void> {
  const instance = findInstance(stateDirectory(), name);
  const abort = new AbortController();
  process.once("SIGINT", () => abort.abort());
  process.once("SIGTERM", () => abort.abort());
  let lineBegins = true;
  for await (const { stream, time, bytes } of readLogs(instance, {
    follow: options.follow === true,
    signal: abort.signal,
    ...(options.tail === undefined ? {} : { tail: options.tail }),
  })) {
    if (options.json === true) {
      process.stdout.write(
        `${JSON.stringify({ time: time.toISOString(), stream, data: bytes.toString("utf8") })}\n`,
      );
      continue;
    }
    const target = stream === "stdout" ? process.stdout : process.stderr;
    if (options.timestamps !== true) {
      if (!target.write(bytes)) await new Promise((resolve) => target.once("drain", resolve));
      continue;
    }
    for (const line of bytes.toString("latin1").split(/(?<=\n)/)) {
      target.write(Buffer.from(`${lineBegins ? `${time.toISOString()} ` : ""}${line}`, "latin1"));
      lineBegins = line.endsWith("\n");
    }
  }
}
