import { readFileSync } from "node:fs";
import { stateDirectory } from "@shelter/base";
import { BrokerClient } from "@shelter/broker";
import { serve as startServer } from "@shelter/server";
import { TpmFactory } from "@shelter/vm";
import { printable, printJson, styled } from "../terminal.ts";
import { brokerState } from "./broker.ts";

interface ServeOptions {
  readonly listen: string;
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly state?: string;
  readonly trustLocalTpm?: boolean;
  readonly json?: boolean;
}

/** `shelter serve`: runs the broker until it is told to stop. */
export async function serve(options: ServeOptions): Promise<void> {
  const tls = {
    ...(options.tlsCert === undefined ? {} : { tlsCert: options.tlsCert }),
    ...(options.tlsKey === undefined ? {} : { tlsKey: options.tlsKey }),
  };
  const serving = await startServer({
    stateDir: options.state ?? brokerState(),
    listen: options.listen,
    ...tls,
  });
  const stop = (): void => {
    serving.close().then(
      () => process.exit(0),
      (error: unknown) => {
        process.stderr.write(`shelter: ${error instanceof Error ? error.message : String(error)}\n`);
        process.exit(70);
      },
    );
  };
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  if (options.trustLocalTpm === true) {
    const token = readFileSync(serving.adminTokenFile, "utf8").trim();
    const ca = options.tlsCert === undefined ? {} : { ca: readFileSync(options.tlsCert, "utf8") };
    const client = new BrokerClient({ url: serving.url, token, ...ca });
    for (const file of await new TpmFactory(stateDirectory()).ensureAuthority()) {
      await client.addTrustAnchor(readFileSync(file, "utf8"));
    }
  }
  if (options.json === true) {
    printJson({ url: serving.url, adminTokenFile: serving.adminTokenFile, pid: process.pid });
    return;
  }
  process.stdout.write(
    `${styled("green", "listening")} on ${serving.url}\nadmin token in ${printable(serving.adminTokenFile)}\n`,
  );
  if (options.trustLocalTpm === true) {
    process.stdout.write(
      "trusting this user's own virtual TPMs: for trying things out, not for production\n",
    );
  }
}
