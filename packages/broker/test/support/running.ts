import { generateKeyPairSync } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { Broker, BrokerClient, createApp, type HttpLimits, type LogLine, tpmPlatform } from "@shelter/broker";
import { type Issuer, issue, subjectName } from "./certificates.ts";
import type { Tpm } from "./guest.ts";
import { clock, scratch } from "./scratch.ts";
import { type BootEvent, bootEvents, SoftTpm } from "./soft-tpm.ts";

/** A test's own TPM maker. */
export function authority(common = "test EK root"): { issuer: Issuer; certificate: Buffer } {
  const pair = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const issuer = { subject: subjectName(common), key: pair.privateKey, public: pair.publicKey };
  const certificate = issue({
    subject: issuer.subject,
    public: pair.publicKey,
    issuer,
    from: new Date("2025-01-01T00:00:00Z"),
    to: new Date("2045-01-01T00:00:00Z"),
    kind: "ca",
  });
  return { issuer, certificate };
}

/** PCRs as a reference document has them. */
export function reference(workload: string, tpm: Pick<Tpm, "pcrs">, image = "a") {
  const pcr = (n: number) => tpm.pcrs[n]?.toString("hex") ?? "";
  return {
    version: 1,
    workload,
    image: `sha256:${image.repeat(64)}`,
    values: [
      {
        platform: "vtpm",
        shape: { cpus: 1, memory: 268435456 },
        pcrs: { "0": pcr(0), "2": pcr(2), "4": pcr(4), "7": pcr(7), "9": pcr(9) },
      },
    ],
  } as const;
}

export interface Running {
  readonly url: string;
  readonly admin: BrokerClient;
  readonly broker: Broker;
  readonly time: ReturnType<typeof clock>;
  readonly log: LogLine[];
  readonly dir: string;
  readonly token: string;
  readonly ca: ReturnType<typeof authority>;
  tpm(more?: { ekKind?: "rsa" | "ec"; events?: readonly BootEvent[] }): SoftTpm;
  stop(): Promise<void>;
}

export interface RunningOptions {
  readonly limits?: Partial<HttpLimits>;
  readonly sessions?: Parameters<typeof Broker.open>[0]["limits"];
  readonly terseRefusals?: boolean;
}

/** A broker on a free port with a stopped clock and one trusted TPM maker. */
export async function running(t: TestContext, options: RunningOptions = {}): Promise<Running> {
  const dir = join(
    scratch(t, () => stop()),
    "state",
  );
  const time = clock();
  const log: LogLine[] = [];
  const broker = Broker.open({
    stateDir: dir,
    platforms: [tpmPlatform()],
    now: time.now,
    ...(options.sessions ? { limits: options.sessions } : {}),
    ...(options.terseRefusals === undefined ? {} : { terseRefusals: options.terseRefusals }),
  });
  const app = createApp({
    broker,
    log: (line) => log.push(line),
    ...(options.limits ? { limits: options.limits } : {}),
  });
  const url = await app.listen({ host: "127.0.0.1", port: 0 });
  const token = readFileSync(join(dir, "admin.token"), "utf8").trim();
  const admin = new BrokerClient({ url, token });
  const ca = authority();
  let stopping: Promise<void> | undefined;
  const stop = () => {
    stopping ??= app.close().then(() => broker.close());
    return stopping;
  };
  return {
    url,
    admin,
    broker,
    time,
    log,
    dir,
    token,
    ca,
    stop,
    tpm: (more = {}) => new SoftTpm({ ca: ca.issuer, events: bootEvents(), ...more }),
  };
}

/** What most tests begin with: the TPM's state is known as `demo`, which may have `default/key/app`. */
export async function known(run: Running, tpm: Pick<Tpm, "pcrs">): Promise<void> {
  await run.admin.addTrustAnchor(run.ca.certificate);
  await run.admin.putReference(reference("demo", tpm));
  await run.admin.putSecret("kbs:///default/key/app", Buffer.from("the secret"));
  await run.admin.allow("demo", "kbs:///default/key/*");
}
