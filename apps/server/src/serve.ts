import { readFileSync } from "node:fs";
import { isIP } from "node:net";
import { createSecureContext } from "node:tls";
import { describe } from "@shelter/base";
import {
  Broker,
  BrokerError,
  createApp,
  type HttpLimits,
  type LogLine,
  type PlatformVerifier,
  tpmPlatform,
} from "@shelter/broker";

/** How `shelter serve` is started. */
export interface ServeOptions {
  /** Where the broker keeps everything; made private when created. */
  readonly stateDir: string;
  /** `HOST:PORT`, `[V6]:PORT`; port 0 takes a free one. */
  readonly listen: string;
  /** PEM files; with both, the listener speaks TLS and may listen anywhere. */
  readonly tlsCert?: string;
  readonly tlsKey?: string;
  readonly renewAdminToken?: boolean;
  readonly terseRefusals?: boolean;
  readonly limits?: Partial<HttpLimits>;
}

/** What serving takes from its surroundings. */
export interface ServeEnvironment {
  readonly now?: () => Date;
  /** Default: one JSON object a line on standard error. */
  readonly log?: (line: LogLine & { readonly time: string }) => void;
  /** Default: every platform this version verifies. */
  readonly platforms?: readonly PlatformVerifier[];
}

/** A broker that listens. */
export interface Serving {
  readonly url: string;
  readonly adminTokenFile: string;
  /** Stops accepting, lets requests in flight finish, signs the audit log, closes the database. */
  close(): Promise<void>;
}

const TICK_MS = 10_000; // how long an audit entry may stay unsigned, and an expired session stay stored
const GRACE_MS = 5_000; // what a request in flight gets at shutdown

/** Starts the broker. Without TLS it listens on loopback only. */
export async function serve(options: ServeOptions, environment: ServeEnvironment = {}): Promise<Serving> {
  const now = environment.now ?? (() => new Date());
  const write = environment.log ?? ((line) => process.stderr.write(`${JSON.stringify(line)}\n`));
  const log = (line: LogLine) => write({ time: now().toISOString(), ...line });
  const { host, port } = parseListen(options.listen);
  const tls = readTls(options);
  if (!tls && !isLoopback(host)) {
    throw new BrokerError("LISTEN_REFUSED", "usage", `will not listen on ${options.listen} without TLS`, {
      hint: "give --tls-cert and --tls-key, or listen on 127.0.0.1",
    });
  }
  const broker = Broker.open({
    stateDir: options.stateDir,
    platforms: environment.platforms ?? [tpmPlatform()],
    now,
    renewAdminToken: options.renewAdminToken ?? false,
    terseRefusals: options.terseRefusals ?? false,
  });
  let timer: NodeJS.Timeout | undefined;
  try {
    const app = createApp({
      broker,
      log,
      ...(tls ? { tls } : {}),
      ...(options.limits ? { limits: options.limits } : {}),
    });
    const address = await app.listen({ host, port }).catch((cause: unknown) => {
      throw new BrokerError("LISTEN_FAILED", "unavailable", `cannot listen on ${options.listen}`, { cause });
    });
    timer = setInterval(() => tick(broker, log), TICK_MS);
    timer.unref();
    log({
      level: "info",
      event: "listening",
      url: address,
      adminTokenFile: broker.adminTokenFile,
      newAdminToken: broker.adminTokenIsNew,
      key: broker.state.key.thumbprint,
    });
    let closing: Promise<void> | undefined;
    const close = async () => {
      clearInterval(timer);
      const cut = setTimeout(() => app.server.closeAllConnections(), GRACE_MS);
      cut.unref();
      await app.close();
      clearTimeout(cut);
      broker.close();
      log({ level: "info", event: "stopped" });
    };
    return {
      url: address,
      adminTokenFile: broker.adminTokenFile,
      close: () => {
        closing ??= close();
        return closing;
      },
    };
  } catch (error) {
    clearInterval(timer);
    broker.close();
    throw error;
  }
}

function tick(broker: Broker, log: (line: LogLine) => void): void {
  try {
    broker.tick();
  } catch (error) {
    // A full disk must not end the process: reading and refusing still work.
    log({ level: "error", event: "tick", message: describe(error) });
  }
}

function parseListen(listen: string): { host: string; port: number } {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(listen);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3]);
  if (host === undefined || !(port <= 65_535)) {
    throw new BrokerError(
      "LISTEN_REFUSED",
      "usage",
      `listen address ${JSON.stringify(listen)} is not HOST:PORT`,
      {
        hint: "for example 127.0.0.1:8080 or [::1]:8080",
      },
    );
  }
  return { host, port };
}

/** Addresses only: what a name resolves to can change after it was looked at. */
function isLoopback(host: string): boolean {
  if (isIP(host) === 4) return host.startsWith("127.");
  return host === "::1" || host === "localhost";
}

function readTls(options: ServeOptions): { cert: Buffer; key: Buffer } | null {
  const { tlsCert, tlsKey } = options;
  if (tlsCert === undefined && tlsKey === undefined) return null;
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new BrokerError(
      "TLS_MATERIAL",
      "usage",
      "TLS needs a certificate and its key, one of them is missing",
      {
        hint: "give both --tls-cert and --tls-key",
      },
    );
  }
  try {
    const tls = { cert: readFileSync(tlsCert), key: readFileSync(tlsKey) };
    // Parsed here, so that a wrong file is named before anything listens.
    createSecureContext(tls);
    return tls;
  } catch (cause) {
    throw new BrokerError("TLS_MATERIAL", "usage", `cannot use ${tlsCert} with the key ${tlsKey}`, { cause });
  }
}
