import { canonicalJson, type Json, type JsonObject, parseDigest, parseJson } from "@shelter/base";
import { SealError } from "./errors.ts";
import {
  type ArgvGrant,
  MAX_MANIFEST_SIZE,
  type Manifest,
  type MountGrant,
  type Root,
  type Secret,
} from "./manifest.ts";

/** Reads the value of one key; throws where it is not what the key demands. */
class Field {
  readonly value: Json | undefined;
  readonly path: string;
  readonly what: string;

  constructor(value: Json | undefined, path: string, what: string) {
    this.value = value;
    this.path = path;
    this.what = what;
  }

  wrong(expected: string): SealError {
    return new SealError(
      "MANIFEST_MALFORMED",
      "malformed",
      `${this.what}: expected ${expected} for ${this.path || "the document"}`,
    );
  }

  get absent(): boolean {
    return this.value === undefined;
  }

  text(): string {
    if (typeof this.value !== "string") throw this.wrong("text");
    return this.value;
  }

  hex(): string {
    if (typeof this.value !== "string" || !/^[0-9a-f]{64}$/.test(this.value))
      throw this.wrong("64 hex digits");
    return this.value;
  }

  boolean(): boolean {
    if (typeof this.value !== "boolean") throw this.wrong("true or false");
    return this.value;
  }

  number(max = Number.MAX_SAFE_INTEGER): number {
    const value = this.value;
    if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0 || value > max) {
      throw this.wrong(`a whole number up to ${max}`);
    }
    return value;
  }

  list(): Field[] {
    if (!Array.isArray(this.value)) throw this.wrong("a list");
    return this.value.map((v, i) => new Field(v as Json, `${this.path}[${i}]`, this.what));
  }

  texts(): string[] {
    return this.list().map((f) => f.text());
  }

  /** The members, which may be these and no others; any may be absent. */
  object<Name extends string>(...names: readonly Name[]): { [N in Name]: Field } {
    if (this.value === null || typeof this.value !== "object" || Array.isArray(this.value))
      throw this.wrong("an object");
    const object = this.value as JsonObject;
    for (const key of Object.keys(object)) {
      if (!names.some((n) => n === key)) throw this.wrong(`no key ${JSON.stringify(key.slice(0, 80))}`);
    }
    const at = (n: Name): Field =>
      new Field(object[n], this.path === "" ? n : `${this.path}.${n}`, this.what);
    return Object.fromEntries(names.map((n) => [n, at(n)])) as { [N in Name]: Field };
  }
}

/** Reads the bytes of a manifest: its whole form, nothing unknown, canonical. `what` names it in errors. */
export function decodeManifest(bytes: Uint8Array, what: string): Manifest {
  if (bytes.byteLength > MAX_MANIFEST_SIZE) {
    throw new SealError(
      "MANIFEST_MALFORMED",
      "malformed",
      `${what} has ${bytes.byteLength} bytes, more than ${MAX_MANIFEST_SIZE}`,
    );
  }
  const text = Buffer.from(bytes).toString("utf8");
  const document = new Field(parseJson(text, what), "", what);
  const top = document.object(
    "version",
    "process",
    "allow",
    "secrets",
    "ports",
    "network",
    "resources",
    "capabilities",
    "root",
  );
  if (top.version.value !== 1) throw top.version.wrong("1");
  const process = top.process.object("entrypoint", "cmd", "env", "cwd", "user");
  const user = process.user.object("uid", "gid", "groups");
  const allow = top.allow.object("args", "env", "exec", "stdin", "tty", "mounts");
  const resources = top.resources.object("memory", "cpus", "writable");
  const manifest: Manifest = {
    version: 1,
    process: {
      entrypoint: process.entrypoint.texts(),
      cmd: process.cmd.texts(),
      env: process.env.texts(),
      cwd: process.cwd.text(),
      user: {
        uid: user.uid.number(),
        gid: user.gid.number(),
        groups: user.groups.list().map((g) => g.number()),
      },
    },
    allow: {
      args: argvGrants(allow.args),
      env: allow.env.texts(),
      exec: argvGrants(allow.exec),
      stdin: allow.stdin.boolean(),
      tty: allow.tty.boolean(),
      mounts: allow.mounts.list().map(mount),
    },
    secrets: top.secrets.list().map(secret),
    ports: top.ports.list().map((p) => p.number(65535)),
    network: { outbound: top.network.object("outbound").outbound.boolean() },
    resources: {
      memory: resources.memory.number(),
      cpus: resources.cpus.number(),
      writable: resources.writable.number(),
    },
    capabilities: top.capabilities.texts(),
    root: root(top.root),
  };
  if (canonicalJson(manifest) !== text) throw document.wrong("the canonical form (RFC 8785)");
  return manifest;
}

function argvGrants(field: Field): ArgvGrant[] {
  return field.list().map((grant) => grant.texts());
}

function mount(field: Field): MountGrant {
  const { target, readOnly } = field.object("target", "readOnly");
  return { target: target.text(), readOnly: readOnly.boolean() };
}

function secret(field: Field): Secret {
  const { uri, file, env, mode, uid, gid } = field.object("uri", "file", "env", "mode", "uid", "gid");
  if (file.absent === env.absent) throw field.wrong("either file or env");
  return {
    uri: uri.text(),
    ...(!file.absent && { file: file.text() }),
    ...(!env.absent && { env: env.text() }),
    ...(!mode.absent && { mode: mode.number(0o777) }),
    ...(!uid.absent && { uid: uid.number() }),
    ...(!gid.absent && { gid: gid.number() }),
  };
}

function root(field: Field): Root {
  const { shape, squashfs, verity, check, encryption } = field.object(
    "shape",
    "squashfs",
    "verity",
    "check",
    "encryption",
  );
  if (shape.value !== "disk" && shape.value !== "initrd") throw shape.wrong("disk or initrd");
  if (verity.absent !== (shape.value === "initrd")) throw field.wrong("verity exactly for shape disk");
  if (!verity.absent && check.value !== "whole" && check.value !== "lazy") throw check.wrong("whole or lazy");
  if (verity.absent && !check.absent) throw field.wrong("check only for shape disk");
  const { size, digest } = squashfs.object("size", "digest");
  const tree = verity.absent ? undefined : verity.object("rootHash", "salt", "dataBlocks", "hashSize");
  const sealed = encryption.absent ? undefined : encryption.object("key", "cipher", "sectorSize");
  if (
    sealed !== undefined &&
    (sealed.cipher.value !== "aes-xts-plain64" || sealed.sectorSize.value !== 4096)
  ) {
    throw encryption.wrong("aes-xts-plain64 over sectors of 4096 bytes");
  }
  return {
    shape: shape.value,
    squashfs: { size: size.number(), digest: parseDigest(digest.value) },
    ...(tree && {
      verity: {
        rootHash: tree.rootHash.hex(),
        salt: tree.salt.hex(),
        dataBlocks: tree.dataBlocks.number(),
        hashSize: tree.hashSize.number(),
      },
    }),
    ...(tree && { check: check.value === "lazy" ? "lazy" : "whole" }),
    ...(sealed && { encryption: { key: sealed.key.text(), cipher: "aes-xts-plain64", sectorSize: 4096 } }),
  };
}
