import type { ArgvGrant, MountGrant, RootCheck, Secret } from "../manifest.ts";
import { CAPABILITIES, findCapability } from "./capability.ts";
import { nearest, readYaml, type YamlValue } from "./reader.ts";
import { parseSize } from "./size.ts";

/** What `shelter.yaml` says; whatever it leaves out comes from the image or the defaults (docs/shelter-yaml.md). */
export type ShelterConfig = {
  readonly process: {
    readonly entrypoint?: readonly string[];
    readonly cmd?: readonly string[];
    /** Value by name; null removes the image's variable. */
    readonly env: ReadonlyMap<string, string | null>;
    readonly cwd?: string;
    readonly user?: string;
  };
  readonly allow: {
    readonly args: readonly ArgvGrant[];
    readonly env: readonly string[];
    readonly exec: readonly ArgvGrant[];
    readonly stdin: boolean;
    readonly tty: boolean;
    readonly mounts: readonly MountGrant[];
  };
  readonly secrets: readonly Secret[];
  readonly ports?: readonly number[];
  readonly network: { readonly outbound: boolean };
  readonly resources: { readonly memory?: number; readonly cpus: number; readonly writable: number };
  readonly capabilities: { readonly add: readonly string[]; readonly drop: readonly string[] };
  readonly root: { readonly check?: RootCheck };
};

/** Bounds of what a manifest may hold; the guest has the same. */
export const LIMITS = {
  argv: 1024,
  grants: 256,
  env: 1024,
  mounts: 32,
  secrets: 64,
  ports: 64,
  cpus: 64,
  memory: [128 * 2 ** 20, 2 ** 40],
  writable: [2 ** 20, 2 ** 40],
} as const;

const MiB = 2 ** 20;
const VARIABLE = /^[A-Za-z_][A-Za-z0-9_.-]*$/;
const SEGMENT = "[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}";
const KBS_URI = new RegExp(`^kbs:///${SEGMENT}/${SEGMENT}/${SEGMENT}$`);

/** The defaults, which are also what an empty file means. */
export function defaultConfig(): ShelterConfig {
  return readConfig(readYaml("{}", "shelter.yaml"));
}

/** Reads a `shelter.yaml`; anything wrong is an error with file, line, column and what was expected. */
export function parseShelterYaml(text: string, file: string): ShelterConfig {
  const root = readYaml(text, file);
  return root.isNothing ? defaultConfig() : readConfig(root);
}

/** Whether a text is the address of a resource at a broker: `kbs:///repository/type/tag`. */
export function isResourceUri(text: string): boolean {
  return KBS_URI.test(text);
}

function readConfig(root: YamlValue): ShelterConfig {
  const top = root.map([
    "process",
    "allow",
    "secrets",
    "ports",
    "network",
    "resources",
    "capabilities",
    "root",
  ]);
  const process = top.process?.map(["entrypoint", "cmd", "env", "cwd", "user"]) ?? {};
  const allow = top.allow?.map(["args", "env", "exec", "stdin", "tty", "mounts"]) ?? {};
  const network = top.network?.map(["outbound"]) ?? {};
  const resources = top.resources?.map(["memory", "cpus", "writable"]) ?? {};
  const capabilities = top.capabilities?.map(["add", "drop"]) ?? {};
  const { check } = top.root?.map(["check"]) ?? {};
  return {
    process: {
      ...(process.entrypoint && { entrypoint: readArgv(process.entrypoint) }),
      ...(process.cmd && { cmd: readArgv(process.cmd) }),
      env: process.env === undefined ? new Map() : readEnv(process.env),
      ...(process.cwd && { cwd: readPath(process.cwd) }),
      ...(process.user && { user: readUser(process.user) }),
    },
    allow: {
      args: allow.args === undefined ? [] : readArgvGrants(allow.args),
      env: allow.env === undefined ? [] : readEnvGrants(allow.env),
      exec: allow.exec === undefined ? [] : readArgvGrants(allow.exec),
      stdin: allow.stdin?.boolean() ?? true,
      tty: allow.tty?.boolean() ?? true,
      mounts: allow.mounts === undefined ? [] : readMounts(allow.mounts),
    },
    secrets: top.secrets === undefined ? [] : readSecrets(top.secrets),
    ...(top.ports && { ports: readPorts(top.ports) }),
    network: { outbound: network.outbound?.boolean() ?? false },
    resources: {
      ...(resources.memory && { memory: readSize(resources.memory, LIMITS.memory) }),
      cpus: resources.cpus?.integer(1, LIMITS.cpus) ?? 1,
      writable: resources.writable === undefined ? 64 * MiB : readSize(resources.writable, LIMITS.writable),
    },
    capabilities: {
      add: capabilities.add === undefined ? [] : readCapabilities(capabilities.add),
      drop: capabilities.drop === undefined ? [] : readCapabilities(capabilities.drop),
    },
    root: { ...(check && { check: readCheck(check) }) },
  };
}

function readCheck(value: YamlValue): RootCheck {
  const text = value.text("whole or lazy");
  if (text !== "whole" && text !== "lazy") throw value.wrong("whole or lazy");
  return text;
}

function readArgv(value: YamlValue): string[] {
  return value.list("a list of arguments", LIMITS.argv).map((item) => item.text("an argument"));
}

function readEnv(value: YamlValue): Map<string, string | null> {
  const env = new Map<string, string | null>();
  const put = (at: YamlValue, name: string, content: string | null): void => {
    if (!VARIABLE.test(name)) {
      throw at.error(`expected a variable name in ${value.path}, have ${JSON.stringify(name.slice(0, 80))}`);
    }
    if (env.has(name)) throw at.error(`expected each variable once in ${value.path}, have ${name} twice`);
    env.set(name, content);
  };
  if (value.isMap) {
    for (const { name, key, value: content } of value.members("a map or a list of NAME=value", LIMITS.env)) {
      put(key, name, content.isNothing ? null : content.text("text"));
    }
    return env;
  }
  for (const item of value.list("a map or a list of NAME=value", LIMITS.env)) {
    const text = item.text("NAME=value");
    const equals = text.indexOf("=");
    if (equals < 1) throw item.wrong("NAME=value");
    put(item, text.slice(0, equals), text.slice(equals + 1));
  }
  return env;
}

function readPath(value: YamlValue): string {
  const path = value.text("an absolute path");
  const parts = path.split("/").slice(1);
  const plain = path === "/" || parts.every((p) => p !== "" && p !== "." && p !== ".." && p.length < 256);
  if (!path.startsWith("/") || !plain || Buffer.byteLength(path) > 4095) {
    throw value.wrong("an absolute path without //, . or ..");
  }
  return path;
}

function readUser(value: YamlValue): string {
  if (typeof value.scalar === "number") return String(value.integer(0, 0xfffffffe));
  const text = value.text("a user, as app, app:group or 1000:1000");
  if (!/^[^:\s]{1,255}(:[^:\s]{1,255})?$/.test(text))
    throw value.wrong("a user, as app, app:group or 1000:1000");
  return text;
}

function readArgvGrants(value: YamlValue): ArgvGrant[] {
  const anything: ArgvGrant = ["**"];
  const expected = 'a list of argument lists, as [["--port", "*"]], or "*"';
  if (value.scalar === "*") return [anything];
  return value.list(expected, LIMITS.grants).map((item) => {
    if (item.scalar === "*") return anything;
    if (!item.isList) throw item.wrong(expected);
    const patterns = item.list(expected, LIMITS.argv);
    return patterns.map((pattern, i) => {
      const text = pattern.text("a pattern");
      if (text === "**" && i !== patterns.length - 1) throw pattern.wrong("** only as the last pattern");
      return text;
    });
  });
}

function readEnvGrants(value: YamlValue): string[] {
  if (value.scalar === "*") return ["*"];
  const names = value
    .list('a list of variable names, as [LOG_LEVEL, "APP_*"], or "*"', LIMITS.grants)
    .map((item) => {
      const text = item.text("a variable name or a prefix with *");
      const name = text.endsWith("*") ? text.slice(0, -1) : text;
      if (!(VARIABLE.test(name) || text === "*")) throw item.wrong("a variable name or a prefix with *");
      return text;
    });
  return [...new Set(names)].sort();
}

function readMounts(value: YamlValue): MountGrant[] {
  const seen = new Set<string>();
  return value.list("a list of mounts, as [{target: /data}]", LIMITS.mounts).map((item) => {
    const members = item.map(["target", "readOnly"]);
    if (members.target === undefined) throw item.error(`expected a target in ${item.path}, have none`);
    const target = readPath(members.target);
    if (target === "/") throw members.target.wrong("a path below /");
    if (seen.has(target)) throw members.target.error(`expected each target once, have ${target} twice`);
    seen.add(target);
    return { target, readOnly: members.readOnly?.boolean() ?? true };
  });
}

function readSecrets(value: YamlValue): Secret[] {
  const seen = new Set<string>();
  return value
    .list("a list of secrets, as [{from: kbs:///default/key/app, file: /run/secrets/key}]", LIMITS.secrets)
    .map((item) => {
      const { from, file, env, mode, uid, gid } = item.map(["from", "file", "env", "mode", "uid", "gid"]);
      if (from === undefined) throw item.error(`expected from in ${item.path}, have none`);
      const uri = from.text("kbs:///repository/type/tag");
      if (!isResourceUri(uri)) throw from.wrong("kbs:///repository/type/tag");
      if ((file === undefined) === (env === undefined)) {
        throw item.error(`expected either file or env in ${item.path}, have ${file ? "both" : "neither"}`);
      }
      const once = (at: YamlValue, target: string): void => {
        if (seen.has(target))
          throw at.error(`expected each secret in a place of its own, have ${target} twice`);
        seen.add(target);
      };
      if (env !== undefined) {
        const other = mode ?? uid ?? gid;
        if (other !== undefined) throw other.error(`expected ${other.path} only beside file, have env`);
        const name = env.text("a variable name");
        if (!VARIABLE.test(name)) throw env.wrong("a variable name");
        once(env, name);
        return { uri, env: name };
      }
      const at = file ?? item;
      const path = readPath(at);
      if (path === "/") throw at.wrong("a path below /");
      once(at, path);
      return {
        uri,
        file: path,
        ...(mode && { mode: readMode(mode) }),
        ...(uid && { uid: uid.integer(0, 0xfffffffe) }),
        ...(gid && { gid: gid.integer(0, 0xfffffffe) }),
      };
    });
}

/** A file mode as chmod takes it, whether YAML thinks the digits are text or a number. */
function readMode(value: YamlValue): number {
  const match = /^(?:0o|0)?([0-7]{3})$/.exec(value.source("a file mode, as 0400"));
  if (match === null) throw value.wrong("a file mode, as 0400");
  return Number.parseInt(match[1] ?? "", 8);
}

function readPorts(value: YamlValue): number[] {
  const ports = value.list("a list of ports, as [80, 443]", LIMITS.ports).map((item) => {
    const text =
      typeof item.scalar === "string" ? /^([0-9]{1,5})(?:\/tcp)?$/.exec(item.scalar)?.[1] : undefined;
    if (text === undefined) return item.integer(1, 65535);
    if (Number(text) < 1 || Number(text) > 65535) throw item.wrong("a port from 1 to 65535");
    return Number(text);
  });
  return [...new Set(ports)].sort((a, b) => a - b);
}

function readSize(value: YamlValue, [min, max]: readonly [number, number]): number {
  const expected = "a size in whole MiB, as 256MiB";
  const size = parseSize(value.source(expected));
  if (size === undefined || size % MiB !== 0) throw value.wrong(expected);
  if (size < min || size > max) throw value.wrong(`from ${min / MiB}MiB to ${max / MiB}MiB`);
  return size;
}

function readCapabilities(value: YamlValue): string[] {
  return value.list("a list of capabilities, as [NET_ADMIN]", 64).flatMap((item) => {
    const text = item.text("a capability");
    if (text.toUpperCase() === "ALL") return [...CAPABILITIES];
    const found = findCapability(text);
    if (found !== undefined) return [found];
    const near = nearest(
      text.toUpperCase().replace(/^CAP_/, ""),
      CAPABILITIES.map((c) => c.slice(4)),
    );
    throw item.error(
      `expected a capability, have ${JSON.stringify(text.slice(0, 60))}`,
      near === undefined ? undefined : `did you mean ${near}?`,
    );
  });
}
