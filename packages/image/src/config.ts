import { type Digest, parseDigest } from "@shelter/base";
import { absent, elementsOf, type Field, member, membersOf, parseDocument, stringOf } from "./document.ts";
import { ImageError } from "./errors.ts";
import { MAX_LAYERS } from "./limits.ts";

/** A port an image says it listens on. */
export interface ExposedPort {
  readonly port: number;
  readonly protocol: "tcp" | "udp" | "sctp";
}

/** How an image wants to be run (OCI image-spec, "Image Configuration"), parsed and bounded. */
export interface ImageConfig {
  /** Empty where the image names none. */
  readonly entrypoint: readonly string[];
  readonly cmd: readonly string[];
  /** `KEY=VALUE`, each key once, the last one given. */
  readonly env: readonly string[];
  /** Absolute; `/` where the image names none. */
  readonly workingDir: string;
  /** `USER`, `UID`, `USER:GROUP`, `UID:GID` or a mix; empty means root. */
  readonly user: string;
  readonly exposedPorts: readonly ExposedPort[];
  /** Paths of declared volumes: plain directories of the image here. */
  readonly volumes: readonly string[];
  readonly labels: ReadonlyMap<string, string>;
  /** As the image has it: `SIGTERM`, `TERM` or a number; empty where it names none. */
  readonly stopSignal: string;
}

/** What a directory without configuration runs as. */
export const EMPTY_CONFIG: ImageConfig = {
  entrypoint: [],
  cmd: [],
  env: [],
  workingDir: "/",
  user: "",
  exposedPorts: [],
  volumes: [],
  labels: new Map(),
  stopSignal: "",
};

const MAX_ARGS = 4096;
const MAX_ENV = 4096;
const MAX_ENV_BYTES = 131_072; // one string execve takes (MAX_ARG_STRLEN)
const MAX_PORTS = 1024;
const MAX_VOLUMES = 1024;
const MAX_LABELS = 4096;

/** A parsed configuration and the digests of the layers it goes with. */
export interface ParsedConfig {
  readonly config: ImageConfig;
  readonly diffIds: readonly Digest[];
}

/** Parses an image's configuration; refuses one for another platform than linux/amd64. */
export function parseConfig(bytes: Uint8Array, what: string): ParsedConfig {
  const document = parseDocument(bytes, what);
  const platform = `${stringOf(member(document, "os"), 64)}/${stringOf(member(document, "architecture"), 64)}`;
  if (platform !== "linux/amd64") {
    throw new ImageError("PLATFORM_ABSENT", `${what}: the image is for ${platform}, expected linux/amd64`);
  }
  const rootfs = member(document, "rootfs");
  if (absent(rootfs))
    throw new ImageError("IMAGE_MALFORMED", `${what}: no rootfs, so no layer can be verified`);
  const type = stringOf(member(rootfs, "type"), 64);
  if (type !== "layers") {
    throw new ImageError(
      "IMAGE_MALFORMED",
      `${what}: rootfs type is ${JSON.stringify(type)}, expected "layers"`,
    );
  }
  const diffIds = elementsOf(member(rootfs, "diff_ids"), MAX_LAYERS).map((field) => parseDigest(field.value));
  const inner = member(document, "config");
  return { config: absent(inner) ? EMPTY_CONFIG : parseProcess(inner), diffIds };
}

function parseProcess(field: Field): ImageConfig {
  return {
    entrypoint: stringsOf(member(field, "Entrypoint"), MAX_ARGS),
    cmd: stringsOf(member(field, "Cmd"), MAX_ARGS),
    env: parseEnv(member(field, "Env")),
    workingDir: parseWorkingDir(member(field, "WorkingDir")),
    user: optionalString(member(field, "User"), 256),
    exposedPorts: parsePorts(member(field, "ExposedPorts")),
    volumes: membersOf(member(field, "Volumes"), MAX_VOLUMES).map(([path]) => path),
    labels: new Map(
      membersOf(member(field, "Labels"), MAX_LABELS).map(([key, value]) => [
        key,
        optionalString(value, 2 ** 20),
      ]),
    ),
    stopSignal: optionalString(member(field, "StopSignal"), 32),
  };
}

function optionalString(field: Field, max: number): string {
  return absent(field) ? "" : stringOf(field, max);
}

function stringsOf(field: Field, max: number): string[] {
  return elementsOf(field, max).map((element) => stringOf(element, MAX_ENV_BYTES));
}

function parseEnv(field: Field): string[] {
  const byKey = new Map<string, string>();
  for (const element of elementsOf(field, MAX_ENV)) {
    const text = stringOf(element, MAX_ENV_BYTES);
    const equals = text.indexOf("=");
    if (equals === 0) {
      throw new ImageError("IMAGE_MALFORMED", `${element.path}: variable without a name`);
    }
    // a name alone says "from the builder's environment", which an image does not have
    if (equals === -1) continue;
    byKey.set(text.slice(0, equals), text);
  }
  return [...byKey.values()];
}

function parseWorkingDir(field: Field): string {
  const text = optionalString(field, 4095);
  if (text === "") return "/";
  // Docker takes a relative one from the root
  return text.startsWith("/") ? text : `/${text}`;
}

function parsePorts(field: Field): ExposedPort[] {
  const ports: ExposedPort[] = [];
  for (const [key, { path }] of membersOf(field, MAX_PORTS)) {
    const match = /^([0-9]{1,5})(?:-([0-9]{1,5}))?(?:\/(tcp|udp|sctp))?$/.exec(key.toLowerCase());
    const first = Number(match?.[1]);
    const last = match?.[2] === undefined ? first : Number(match[2]);
    if (match === null || first < 1 || last > 65_535 || last < first) {
      throw new ImageError("IMAGE_MALFORMED", `${path}: expected a port such as 80/tcp`);
    }
    if (ports.length + last - first >= MAX_PORTS) {
      throw new ImageError("LIMIT_EXCEEDED", `${path}: more than ${MAX_PORTS} exposed ports`);
    }
    const protocol = (match[3] ?? "tcp") as ExposedPort["protocol"];
    for (let port = first; port <= last; port++) ports.push({ port, protocol });
  }
  return ports;
}
