import { existsSync } from "node:fs";
import { isAbsolute, posix, resolve } from "node:path";
import { ShelterError } from "@shelter/base";
import type { MountRequest, PortForward } from "@shelter/guest";
import { ImageStore, refuseRun, type SealedImage } from "@shelter/seal";
import {
  choosePlatform,
  type HostReport,
  type InstanceConfig,
  type Platform,
  type PlatformChoice,
} from "@shelter/vm";

/** The options of `shelter run` that shape the instance. */
export interface RunOptions {
  readonly detach?: boolean;
  readonly interactive?: boolean;
  readonly tty?: boolean;
  readonly rm?: boolean;
  readonly name?: string;
  readonly env: readonly string[];
  readonly volume: readonly string[];
  readonly publish: readonly string[];
  readonly broker?: string;
  readonly ca?: string;
  readonly bootTimeout?: number;
  readonly timings?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
  readonly platform: Platform | "auto";
  readonly memory?: number;
  readonly cpus?: number;
}

function usage(message: string, hint: string): ShelterError {
  return new ShelterError("RUN_OPTION", "usage", message, { hint });
}

/** `-v SRC:DST[:ro]`. */
export function parseMount(text: string): MountRequest {
  const match = /^(.+?):(\/[^:]*)(?::(ro|rw))?$/.exec(text);
  const [, source, target, mode] = match ?? [];
  if (source === undefined || target === undefined) {
    throw usage(`-v ${JSON.stringify(text)} is not SRC:DST[:ro]`, "for example -v ./data:/data:ro");
  }
  const absolute = isAbsolute(source) ? source : resolve(source);
  if (!existsSync(absolute))
    throw usage(`-v: there is no ${absolute}`, "make it first; nothing is created for you");
  return { source: absolute, target: posix.normalize(target), readOnly: mode === "ro" };
}

/** `-p [ADDR:]HOST:GUEST`; without an address only this machine can reach it. */
export function parsePublish(text: string): PortForward {
  const match = /^(?:(\d{1,3}(?:\.\d{1,3}){3}|\[[0-9a-fA-F:]+\]):)?(\d{1,5}):(\d{1,5})(?:\/tcp)?$/.exec(text);
  const hostPort = Number(match?.[2]);
  const guestPort = Number(match?.[3]);
  if (!(hostPort <= 65_535) || !(guestPort >= 1 && guestPort <= 65_535)) {
    throw usage(
      `-p ${JSON.stringify(text)} is not [ADDR:]HOST:GUEST`,
      "for example -p 8080:80 or -p 0.0.0.0:8080:80 (TCP)",
    );
  }
  return { address: (match?.[1] ?? "127.0.0.1").replace(/^\[|\]$/g, ""), hostPort, guestPort };
}

/** `-e K=V`, or `-e K` for the value K has here. */
export function parseEnv(entries: readonly string[], env: NodeJS.ProcessEnv): string[] {
  return entries.flatMap((entry) => {
    if (/^[^=\0]+=/.test(entry)) return [entry];
    if (entry === "" || entry.includes("="))
      throw usage(`-e ${JSON.stringify(entry)} is not K=V`, "for example -e LOG_LEVEL=debug");
    const value = env[entry];
    return value === undefined ? [] : [`${entry}=${value}`];
  });
}

/** Says which line of the manifest refuses something, and what changing it means. */
export function refusal(key: string, reason: string): ShelterError {
  return new ShelterError("MANIFEST_REFUSES", "refused", reason, {
    hint: `to grant it, change ${key} in shelter.yaml and build again; this changes the measurement`,
  });
}

/** Everything a run needs, checked against the image's manifest; refused here before a machine is started. */
export function planRun(
  state: string,
  name: string,
  args: readonly string[],
  options: RunOptions,
  host: HostReport,
): { image: SealedImage; config: InstanceConfig; choice: PlatformChoice } {
  const image = new ImageStore(state).inspect(name);
  const { manifest } = image;
  const mounts = options.volume.map(parseMount);
  const ports = options.publish.map(parsePublish);
  const env = parseEnv(options.env, process.env);
  const given = args.length > 0 ? args : null;
  const tty = options.tty === true;
  const stdin = options.interactive === true;
  const refused = refuseRun(manifest, {
    args: given,
    env,
    stdin,
    tty,
    mounts,
    ports: ports.map((p) => p.guestPort),
  });
  if (refused !== undefined) throw refusal(refused.key, refused.reason);
  const needsBroker = manifest.secrets.length > 0 || manifest.root.encryption !== undefined;
  if (needsBroker && options.broker === undefined && options.dryRun !== true) {
    const what = manifest.root.encryption === undefined ? "secrets" : "the key of its encrypted root";
    throw new ShelterError(
      "BROKER_NEEDED",
      "usage",
      `the image needs ${what} from a broker, and none was named`,
      {
        hint: "give --broker URL or set SHELTER_BROKER; shelter serve starts one",
      },
    );
  }
  const choice: PlatformChoice =
    options.dryRun === true && options.platform !== "auto"
      ? { platform: options.platform, accelerator: host.accelerator, notices: [] }
      : choosePlatform(options.platform, host);
  const config: InstanceConfig = {
    image: {
      identity: image.identity,
      name,
      directory: image.directory,
      shape: image.record.shape,
      cmdline: image.record.cmdline,
    },
    platform: choice.platform,
    accelerator: choice.accelerator,
    memory: options.memory ?? manifest.resources.memory,
    cpus: options.cpus ?? manifest.resources.cpus,
    outbound: manifest.network.outbound,
    attest: options.broker !== undefined && choice.platform !== "none",
    broker: options.broker === undefined ? null : { url: options.broker, ca: options.ca },
    args: given,
    env,
    tty,
    stdin,
    mounts,
    ports,
    remove: options.rm === true,
    bootTimeout: options.bootTimeout ?? null,
  };
  return { image, config, choice };
}
