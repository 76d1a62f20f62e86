import {
  constants,
  copyFileSync,
  createReadStream,
  createWriteStream,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import { canonicalJson, type Digest, digestOf, type SecretBytes } from "@shelter/base";
import { type FlatTree, flatten, type ImageSource, openSource } from "@shelter/image";
import { assetsDirectory, digestFile, openAssets } from "./assets.ts";
import { commandLine } from "./cmdline.ts";
import { composeManifest, type ImageFacts, withRoot } from "./compose.ts";
import { defaultConfig, isResourceUri, parseShelterYaml, type ShelterConfig } from "./config/shelter-yaml.ts";
import { SealError } from "./errors.ts";
import { cpioHeader, cpioPadding, cpioTrailer } from "./initrd/cpio.ts";
import { cachedInitrd } from "./initrd/initrd.ts";
import { encodeManifest, type Root, type Shape } from "./manifest.ts";
import type { OnProgress } from "./progress.ts";
import { identityOf } from "./record.ts";
import { encryptFile } from "./root/encrypt.ts";
import { writeSquashfs } from "./root/squashfs.ts";
import { writeVerity } from "./root/verity.ts";
import type { ImageFile, ImageRecord, SealedImage } from "./sealed.ts";
import { flushFile } from "./store/files.ts";
import { ImageStore } from "./store/store.ts";
import { aborted, nameDiskFull } from "./tool.ts";

/** What to seal, and how. */
export type BuildOptions = {
  /** As the person named it: a directory, `docker-archive:FILE`, `oci:DIR[:TAG]`, `oci-archive:FILE`. */
  readonly source: string;
  /** Path of a `shelter.yaml`; safe defaults without one. */
  readonly yaml?: string | undefined;
  readonly shape?: Shape | undefined;
  /** Encrypts the root; `uri` is where the guest finds the key, which whoever calls this stores there. */
  readonly encryption?: { readonly uri: string; readonly key: SecretBytes } | undefined;
  /** `NAME[:TAG]` to give the image. */
  readonly name?: string | undefined;
  /** The state directory. */
  readonly state: string;
  readonly assets?: string | undefined;
  /** Ends the build; nothing of it stays. */
  readonly signal?: AbortSignal | undefined;
};

/** A finished build: the image, and what of the source could not be kept, one sentence each. */
export type BuildResult = { readonly image: SealedImage; readonly notes: readonly string[] };

const MAX_ACCOUNTS_SIZE = 4 * 2 ** 20;

/** Seals an image: the same source, configuration, key and guest parts are the same bytes and identity. */
export async function build(
  options: BuildOptions,
  onProgress: OnProgress = () => undefined,
): Promise<BuildResult> {
  const { signal } = options;
  const yaml = readYamlFile(options.yaml);
  const encryption = options.encryption;
  if (encryption !== undefined && !isResourceUri(encryption.uri)) {
    throw new SealError(
      "KEY_MALFORMED",
      "usage",
      `expected kbs:///repository/type/tag, have ${JSON.stringify(encryption.uri.slice(0, 200))}`,
    );
  }
  if (encryption !== undefined && options.shape === "initrd") {
    throw new SealError(
      "KEY_MALFORMED",
      "usage",
      "an encrypted root needs a disk, a root in the initrd has none",
      {
        hint: "build with -T disk",
      },
    );
  }
  const assets = openAssets(options.assets ?? assetsDirectory());
  const store = new ImageStore(options.state);
  const source = await openSource(options.source);
  let temporary: string | undefined;
  try {
    onProgress({ step: "source", done: 0 });
    const tree = await flatten(source);
    stopIf(signal);
    const shape = options.shape ?? "disk";
    const part = composeManifest(await factsOf(source, tree), yaml);
    temporary = store.begin();
    const at = (file: ImageFile): string => join(temporary ?? "", file);

    onProgress({ step: "initrd", done: 0 });
    const initrd = await cachedInitrd(assets, options.state);
    copyFileSync(assets.kernel, at("kernel"), constants.COPYFILE_FICLONE);
    copyFileSync(initrd.path, at("initrd"), constants.COPYFILE_FICLONE);
    stopIf(signal);

    const boot = Promise.all([digestFile(at("kernel")), flushFile(at("kernel")), flushFile(at("initrd"))]);
    boot.catch(() => undefined); // awaited below, unless the root fails first

    const squashfs = at("root.squashfs");
    const total = tree.totals.bytes;
    await writeSquashfs((stream) => tree.writeTar(stream), squashfs, {
      signal,
      onBytes: (done) => onProgress({ step: "root", done: Math.min(done, total), total }),
    });
    onProgress({ step: "root", done: total, total });
    const { size } = statSync(squashfs);
    let encrypted: Digest | undefined;
    if (encryption !== undefined) {
      encrypted = await encryptFile(squashfs, encryption.key, {
        signal,
        onBytes: (done) => onProgress({ step: "encrypt", done, total: size }),
      });
    }
    onProgress({ step: "verity", done: 0, total: size });
    // Two readers of one file, on two processors, while it goes to the disk.
    const [digest, verity] = await Promise.all([
      encrypted ?? digestFile(squashfs),
      shape === "disk" ? writeVerity(squashfs, at("root.verity"), signal) : undefined,
      shape === "disk" ? flushFile(squashfs) : undefined,
    ]);
    const [kernel] = await boot;
    stopIf(signal);
    const root: Root = {
      shape,
      squashfs: { size, digest },
      ...(verity && { verity }),
      ...(encryption && {
        encryption: { key: encryption.uri, cipher: "aes-xts-plain64", sectorSize: 4096 },
      }),
    };
    if (shape === "initrd") {
      await appendRoot(at("initrd"), squashfs, size);
      rmSync(squashfs);
    }

    onProgress({ step: "store", done: 0 });
    const manifest = encodeManifest(withRoot(part, root, yaml));
    writeFileSync(at("manifest.json"), manifest);
    const cmdline = commandLine(digestOf(manifest), root.verity?.rootHash);
    const known = { kernel, "root.squashfs": digest, "manifest.json": digestOf(manifest) };
    const files = await listFiles(at, shape, known);
    const identity = identityOf({ shape, cmdline, files });
    const record: ImageRecord = {
      version: 1,
      identity,
      shape,
      cmdline,
      created: null,
      files,
      source: {
        kind: source.kind,
        ...(source.configDigest !== null && { config: source.configDigest }),
        ...(source.layers.length > 0 && { layers: source.layers }),
      },
      guest: { kernelVersion: assets.kernelVersion, agent: initrd.agent },
    };
    writeFileSync(join(temporary, "image.json"), canonicalJson(record));
    stopIf(signal);
    const image = await store.commit(temporary, identity, options.name);
    return { image, notes: tree.notes };
  } catch (error) {
    if (signal?.aborted) throw aborted();
    throw nameDiskFull(error, store.directory);
  } finally {
    if (temporary !== undefined) rmSync(temporary, { recursive: true, force: true });
    await source.close();
  }
}

function stopIf(signal: AbortSignal | undefined): void {
  if (signal?.aborted) throw aborted();
}

function readYamlFile(path: string | undefined): ShelterConfig {
  if (path === undefined) return defaultConfig();
  let text: string;
  try {
    text = new TextDecoder("utf-8", { fatal: true }).decode(readFileSync(path));
  } catch (cause) {
    throw new SealError("YAML_MALFORMED", "usage", `cannot read ${path} as UTF-8 text`, { cause });
  }
  return parseShelterYaml(text, path);
}

async function factsOf(source: ImageSource, tree: FlatTree): Promise<ImageFacts> {
  const text = async (path: string): Promise<string> =>
    tree.lookup(path) === undefined
      ? ""
      : ((await tree.readFile(path, MAX_ACCOUNTS_SIZE))?.toString("utf8") ?? "");
  return {
    config: source.config,
    passwd: await text("/etc/passwd"),
    group: await text("/etc/group"),
    shell: tree.lookup("/bin/sh")?.type === "file",
  };
}

/** The root as a second cpio behind the first: the kernel unpacks both, and all of it is measured. */
async function appendRoot(initrd: string, squashfs: string, size: number): Promise<void> {
  async function* archive(): AsyncGenerator<Uint8Array> {
    yield cpioPadding(statSync(initrd).size);
    yield cpioHeader("root.squashfs", 1, 0o100400, 1, size);
    yield* createReadStream(squashfs, { highWaterMark: 1 << 20 });
    yield cpioPadding(size);
    yield cpioTrailer();
  }
  await pipeline(archive, createWriteStream(initrd, { flags: "a" }));
}

async function listFiles(
  at: (file: ImageFile) => string,
  shape: Shape,
  known: { readonly [F in ImageFile]?: Digest },
): Promise<ImageRecord["files"]> {
  const names: ImageFile[] = ["kernel", "initrd", "manifest.json"];
  if (shape === "disk") names.push("root.squashfs", "root.verity");
  const files: { [F in ImageFile]?: { digest: Digest; size: number } } = {};
  for (const name of names)
    files[name] = { digest: known[name] ?? (await digestFile(at(name))), size: statSync(at(name)).size };
  return files;
}
