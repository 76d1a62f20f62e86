import type { ArgvGrant, Manifest, MountGrant } from "./manifest.ts";

/** What a person asks for that a manifest does not grant. */
export type Refusal = {
  /** The line of shelter.yaml to change, as `allow.args`. */
  readonly key: string;
  /** What was asked for, one clause. */
  readonly reason: string;
};

/** What `shelter run` asks of a manifest. */
export type RunRequest = {
  /** The ARGs given, or null when the image's own `cmd` runs. */
  readonly args: readonly string[] | null;
  /** `NAME=value`. */
  readonly env: readonly string[];
  readonly stdin: boolean;
  readonly tty: boolean;
  readonly mounts: readonly MountGrant[];
  /** Guest ports of `-p`. */
  readonly ports: readonly number[];
};

/** Whether `*` in the pattern, standing for any characters, can make it the text. Linear in both. */
function matches(pattern: string, text: string): boolean {
  const parts = pattern.split("*");
  const head = parts[0] ?? "";
  if (parts.length === 1) return text === head;
  const tail = parts[parts.length - 1] ?? "";
  if (text.length < head.length + tail.length || !text.startsWith(head) || !text.endsWith(tail)) return false;
  let at = head.length;
  const end = text.length - tail.length;
  for (const part of parts.slice(1, -1)) {
    const found = text.indexOf(part, at);
    if (found < 0 || found + part.length > end) return false;
    at = found + part.length;
  }
  return true;
}

/** Whether one of the grants covers the whole argument list. */
export function grantsArgv(grants: readonly ArgvGrant[], argv: readonly string[]): boolean {
  return grants.some((grant) => {
    const open = grant.at(-1) === "**";
    const fixed = open ? grant.slice(0, -1) : grant;
    if (open ? argv.length < fixed.length : argv.length !== fixed.length) return false;
    return fixed.every((pattern, i) => matches(pattern, argv[i] ?? ""));
  });
}

/** Whether ARGs may be given in place of the image's `cmd`. */
export function grantsArgs(manifest: Manifest, args: readonly string[]): boolean {
  return grantsArgv(manifest.allow.args, args);
}

/** Whether `shelter exec` may run this command line. */
export function grantsExec(manifest: Manifest, argv: readonly string[]): boolean {
  return grantsArgv(manifest.allow.exec, argv);
}

/** Whether the variable may be set from outside. */
export function grantsEnv(grants: readonly string[], variable: string): boolean {
  return grants.some((g) => (g.endsWith("*") ? variable.startsWith(g.slice(0, -1)) : variable === g));
}

/** Whether a host directory may be mounted at this target, this way. */
export function grantsMount(grants: readonly MountGrant[], mount: MountGrant): boolean {
  return grants.some((g) => g.target === mount.target && (mount.readOnly || !g.readOnly));
}

/** The first thing asked for that the manifest does not grant; undefined when all is. The guest checks again. */
export function refuseRun(manifest: Manifest, request: RunRequest): Refusal | undefined {
  const { allow } = manifest;
  if (request.args !== null && !grantsArgv(allow.args, request.args)) {
    return { key: "allow.args", reason: `arguments ${JSON.stringify(request.args)} are not granted` };
  }
  for (const entry of request.env) {
    const name = entry.split("=", 1)[0] ?? "";
    if (!grantsEnv(allow.env, name)) {
      return { key: "allow.env", reason: `variable ${JSON.stringify(name)} is not granted` };
    }
  }
  if (request.stdin && !allow.stdin) return { key: "allow.stdin", reason: "standard input is not granted" };
  if (request.tty && !allow.tty) return { key: "allow.tty", reason: "a terminal is not granted" };
  for (const mount of request.mounts) {
    if (!grantsMount(allow.mounts, mount)) {
      const how = mount.readOnly ? "read-only" : "writable";
      return { key: "allow.mounts", reason: `a ${how} mount at ${mount.target} is not granted` };
    }
  }
  for (const port of request.ports) {
    if (!manifest.ports.includes(port)) return { key: "ports", reason: `port ${port} is not granted` };
  }
  return undefined;
}

/** Why this `shelter exec` is not granted; undefined when it is. */
export function refuseExec(manifest: Manifest, argv: readonly string[]): Refusal | undefined {
  if (grantsArgv(manifest.allow.exec, argv)) return undefined;
  return { key: "allow.exec", reason: `command ${JSON.stringify(argv)} is not granted` };
}
