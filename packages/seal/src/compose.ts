import type { ImageConfig } from "@shelter/image";
import { resolveUser } from "./account.ts";
import { DEFAULT_CAPABILITIES } from "./config/capability.ts";
import { LIMITS, type ShelterConfig } from "./config/shelter-yaml.ts";
import { SealError } from "./errors.ts";
import type { Manifest, Root } from "./manifest.ts";

/** What of the image's own files a manifest is made from. */
export type ImageFacts = {
  readonly config: Pick<ImageConfig, "entrypoint" | "cmd" | "env" | "workingDir" | "user" | "exposedPorts">;
  readonly passwd: string;
  readonly group: string;
  /** Whether the image has `/bin/sh`. */
  readonly shell: boolean;
};

const MiB = 2 ** 20;
const DEFAULT_MEMORY = 256 * MiB;
const DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"; // as Docker

/** Everything of a manifest but the root, so that mistakes show before the long work begins. */
export function composeManifest(facts: ImageFacts, yaml: ShelterConfig): Omit<Manifest, "root"> {
  const image = facts.config;
  const account = resolveUser(yaml.process.user ?? image.user, facts.passwd, facts.group);
  const { home, ...user } = account;
  // As Docker: an entrypoint of one's own drops the image's cmd, which was written for another program.
  const entrypoint = yaml.process.entrypoint ?? image.entrypoint;
  const given = yaml.process.cmd ?? (yaml.process.entrypoint === undefined ? image.cmd : []);
  const nothing = entrypoint.length === 0 && given.length === 0;
  const cmd = nothing && facts.shell ? ["/bin/sh"] : given;
  if (nothing && !facts.shell && yaml.allow.args.length === 0) {
    throw new SealError("MANIFEST_MALFORMED", "usage", "the image names no program to run", {
      hint: "set process.entrypoint or process.cmd in shelter.yaml",
    });
  }
  const ports = yaml.ports ?? image.exposedPorts.filter((p) => p.protocol === "tcp").map((p) => p.port);
  const { drop, add } = yaml.capabilities;
  const capabilities = [...DEFAULT_CAPABILITIES.filter((c) => !drop.includes(c)), ...add];
  const manifest: Omit<Manifest, "root"> = {
    version: 1,
    process: {
      entrypoint,
      cmd,
      env: mergeEnv(image.env, yaml.process.env, home),
      cwd: yaml.process.cwd ?? image.workingDir,
      user,
    },
    allow: yaml.allow,
    secrets: yaml.secrets.map((secret) =>
      secret.file === undefined
        ? secret
        : { ...secret, mode: secret.mode ?? 0o400, uid: secret.uid ?? user.uid, gid: secret.gid ?? user.gid },
    ),
    ports: [...new Set(ports)].sort((a, b) => a - b),
    network: yaml.network,
    resources: {
      memory: yaml.resources.memory ?? DEFAULT_MEMORY,
      cpus: yaml.resources.cpus,
      writable: yaml.resources.writable,
    },
    capabilities: [...new Set(capabilities)].sort(),
  };
  check(manifest);
  return manifest;
}

/** Reading more than this before anything runs takes too long to be done unasked. */
const MAX_CHECKED_WHOLE = 256 * MiB;

/** The whole manifest. A root in memory gets the memory it takes, unless `shelter.yaml` says how much there is. */
export function withRoot(part: Omit<Manifest, "root">, root: Root, yaml: ShelterConfig): Manifest {
  let memory = part.resources.memory;
  if (root.shape === "initrd" && yaml.resources.memory === undefined) {
    // The firmware holds the initrd once, the kernel once packed and once unpacked, before the first is freed.
    const need = Math.ceil((3 * root.squashfs.size) / (64 * MiB)) * 64 * MiB;
    memory = Math.min(DEFAULT_MEMORY + need, LIMITS.memory[1]);
  }
  const check = yaml.root.check ?? (root.squashfs.size <= MAX_CHECKED_WHOLE ? "whole" : "lazy");
  return {
    ...part,
    resources: { ...part.resources, memory },
    root: root.shape === "disk" ? { ...root, check } : root,
  };
}

function mergeEnv(
  image: readonly string[],
  changes: ReadonlyMap<string, string | null>,
  home: string,
): readonly string[] {
  const env = new Map<string, string>();
  for (const entry of image) {
    const equals = entry.indexOf("=");
    if (equals > 0) env.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  if (!env.has("PATH")) env.set("PATH", DEFAULT_PATH);
  if (!env.has("HOME")) env.set("HOME", home);
  for (const [name, value] of changes) {
    if (value === null) env.delete(name);
    else env.set(name, value);
  }
  return [...env].map(([name, value]) => `${name}=${value}`);
}

function check(manifest: Omit<Manifest, "root">): void {
  const { process, ports } = manifest;
  const over = (what: string, have: number, limit: number): void => {
    if (have > limit) {
      throw new SealError("MANIFEST_MALFORMED", "malformed", `${what}: ${have}, more than ${limit}`);
    }
  };
  over("arguments of the process", process.entrypoint.length + process.cmd.length, LIMITS.argv);
  over("environment variables", process.env.length, LIMITS.env);
  over("granted ports", ports.length, LIMITS.ports);
  for (const text of [...process.entrypoint, ...process.cmd, ...process.env, process.cwd]) {
    if (text.includes("\0") || !text.isWellFormed()) {
      throw new SealError(
        "MANIFEST_MALFORMED",
        "malformed",
        "the image's process holds a NUL or half a character",
      );
    }
  }
  if (!process.cwd.startsWith("/")) {
    throw new SealError(
      "MANIFEST_MALFORMED",
      "malformed",
      `the working directory ${process.cwd} is not absolute`,
    );
  }
}
