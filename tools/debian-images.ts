/**
 * Container images made from Debian's packages, in the formats other tools write: nothing of Shelter is used here, so
 * that what these tests feed to it is not its own idea of an image.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";

const CACHE = join(import.meta.dirname, "../build/test-images");

/** What Docker keeps as the image's configuration (OCI image-spec, "Image Configuration", member `config`). */
export interface ImageConfig {
  readonly Entrypoint?: readonly string[];
  readonly Cmd?: readonly string[];
  readonly Env?: readonly string[];
  readonly WorkingDir?: string;
  readonly User?: string;
  readonly ExposedPorts?: Readonly<Record<string, object>>;
}

/** A file of a layer: its content, or what it is a link to. */
export type Entry =
  | { readonly content: string | Uint8Array; readonly mode?: number }
  | { readonly link: string };

function sha256(data: Uint8Array | string): string {
  return createHash("sha256").update(data).digest("hex");
}

/** Writes a layer as GNU tar does. */
export function layer(file: string, entries: Readonly<Record<string, Entry>>): string {
  const root = mkdtempSync(join(tmpdir(), "shelter-layer-"));
  // The top of a layer is the root directory of the image.
  chmodSync(root, 0o755);
  try {
    for (const [path, entry] of Object.entries(entries)) {
      const target = join(root, path);
      mkdirSync(dirname(target), { recursive: true });
      if ("link" in entry) symlinkSync(entry.link, target);
      else writeFileSync(target, entry.content, { mode: entry.mode ?? 0o644 });
    }
    mkdirSync(dirname(file), { recursive: true });
    execFileSync("tar", [
      "--sort=name",
      "--owner=0",
      "--group=0",
      "--numeric-owner",
      "--mtime=@1700000000",
      "-C",
      root,
      "-cf",
      file,
      ".",
    ]);
    return file;
  } finally {
    rmSync(root, { recursive: true });
  }
}

/** Debian's busybox with its usual links, as one layer. */
export function busyboxLayer(extra: Readonly<Record<string, Entry>> = {}): string {
  const binary = "/bin/busybox";
  const applets = execFileSync(binary, ["--list"], { encoding: "utf8" }).trim().split("\n");
  const entries: Record<string, Entry> = {
    "bin/busybox": { content: readFileSync(binary), mode: 0o755 },
    "etc/passwd": { content: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n" },
    "etc/group": { content: "root:x:0:\nnogroup:x:65534:\n" },
    "tmp/.keep": { content: "" },
    "root/.keep": { content: "" },
    ...extra,
  };
  for (const applet of applets) if (applet !== "busybox") entries[`bin/${applet}`] = { link: "busybox" };
  const key = sha256(
    JSON.stringify(Object.entries(entries).map(([p, e]) => [p, "link" in e ? e.link : sha256(e.content)])),
  );
  const file = join(CACHE, `busybox-${key.slice(0, 16)}.tar`);
  if (!existsSync(file)) {
    const temporary = layer(`${file}.${process.pid}`, entries);
    renameSync(temporary, file);
  }
  return file;
}

/** A configured Debian with redis-server, nginx and Python, made once by mmdebstrap. */
export function debianLayer(): string {
  const packages = "redis-server,nginx-light,python3-minimal,python3-cryptography";
  const file = join(CACHE, `debian-${sha256(packages).slice(0, 16)}.tar`);
  if (existsSync(file)) return file;
  mkdirSync(CACHE, { recursive: true });
  const temporary = `${file}.${process.pid}.tar`;
  const excludes = ["/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*"].map(
    (p) => `--dpkgopt=path-exclude=${p}`,
  );
  execFileSync(
    "mmdebstrap",
    ["--quiet", "--variant=essential", `--include=${packages}`, ...excludes, "bookworm", temporary],
    {
      stdio: ["ignore", "ignore", "inherit"],
    },
  );
  renameSync(temporary, file);
  return file;
}

function configBlob(config: ImageConfig, layers: readonly string[]): string {
  const diffIds = layers.map((file) => `sha256:${fileSha256(file)}`);
  return JSON.stringify({
    architecture: "amd64",
    os: "linux",
    created: "2026-01-01T00:00:00Z",
    config,
    rootfs: { type: "layers", diff_ids: diffIds },
    history: layers.map(() => ({ created: "2026-01-01T00:00:00Z", created_by: "test" })),
  });
}

const digests = new Map<string, string>();

function fileSha256(file: string): string {
  const { size, mtimeMs } = statSync(file);
  const key = `${file} ${size} ${mtimeMs}`;
  const known = digests.get(key);
  if (known !== undefined) return known;
  const digest = execFileSync("sha256sum", [file], { encoding: "utf8" }).slice(0, 64);
  digests.set(key, digest);
  return digest;
}

/** Writes an image the way `docker save` did before it wrote OCI layouts. */
export function dockerArchive(
  file: string,
  name: string,
  layers: readonly string[],
  config: ImageConfig,
): string {
  const root = mkdtempSync(join(tmpdir(), "shelter-save-"));
  try {
    const blob = configBlob(config, layers);
    const configName = `${sha256(blob)}.json`;
    writeFileSync(join(root, configName), blob);
    const names = layers.map((source) => {
      const id = fileSha256(source);
      mkdirSync(join(root, id), { recursive: true });
      cpSync(source, join(root, id, "layer.tar"));
      return `${id}/layer.tar`;
    });
    writeFileSync(
      join(root, "manifest.json"),
      JSON.stringify([{ Config: configName, RepoTags: [name], Layers: names }]),
    );
    execFileSync("tar", ["-C", root, "-cf", file, "manifest.json", configName, ...names]);
    return file;
  } finally {
    rmSync(root, { recursive: true });
  }
}

/** Writes an OCI layout (image-spec, "Image Layout") with gzip layers; images share the blobs of layers they share. */
export function ociLayout(
  directory: string,
  images: Readonly<Record<string, { layers: readonly string[]; config: ImageConfig }>>,
): string {
  const blobs = join(directory, "blobs/sha256");
  mkdirSync(blobs, { recursive: true });
  const put = (data: string): { digest: string; size: number } => {
    const digest = sha256(data);
    writeFileSync(join(blobs, digest), data);
    return { digest: `sha256:${digest}`, size: Buffer.byteLength(data) };
  };
  const packed = new Map<string, { digest: string; size: number }>();
  const pack = (source: string): { digest: string; size: number } => {
    const known = packed.get(source);
    if (known !== undefined) return known;
    const file = join(CACHE, `${fileSha256(source)}.gz`);
    if (!existsSync(file)) {
      const temporary = `${file}.${process.pid}`;
      execFileSync("sh", ["-c", 'gzip -1nc "$1" >"$2"', "sh", source, temporary]);
      renameSync(temporary, file);
    }
    const digest = fileSha256(file);
    cpSync(file, join(blobs, digest));
    const blob = { digest: `sha256:${digest}`, size: statSync(file).size };
    packed.set(source, blob);
    return blob;
  };
  const manifests = Object.entries(images).map(([tag, image]) => {
    const config = put(configBlob(image.config, image.layers));
    const manifest = put(
      JSON.stringify({
        schemaVersion: 2,
        mediaType: "application/vnd.oci.image.manifest.v1+json",
        config: { mediaType: "application/vnd.oci.image.config.v1+json", ...config },
        layers: image.layers.map((l) => ({
          mediaType: "application/vnd.oci.image.layer.v1.tar+gzip",
          ...pack(l),
        })),
      }),
    );
    return {
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      ...manifest,
      annotations: { "org.opencontainers.image.ref.name": tag },
    };
  });
  writeFileSync(join(directory, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
  writeFileSync(join(directory, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  return directory;
}
