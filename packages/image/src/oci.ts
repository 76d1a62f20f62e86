import { join } from "node:path";
import { type Digest, digestOf, hexOf, parseDigest } from "@shelter/base";
import { indexArchive } from "./archive.ts";
import { parseConfig } from "./config.ts";
import { absent, elementsOf, type Field, member, parseDocument, sizeOf, stringOf } from "./document.ts";
import { ImageError } from "./errors.ts";
import { MAX_DOCUMENT_BYTES, MAX_LAYERS } from "./limits.ts";
import { LocalFile, type Region, readRegion } from "./region.ts";
import { type ImageSource, type Layer, layerName } from "./source.ts";

/** Finds a file of an OCI image layout by its path in it. */
type Find = (name: string) => Promise<Region | undefined>;

const MAX_MANIFESTS = 4096;
const MAX_INDEX_DEPTH = 4;
const REF_NAME = "org.opencontainers.image.ref.name";

const INDEX_TYPES = new Set([
  "application/vnd.oci.image.index.v1+json",
  "application/vnd.docker.distribution.manifest.list.v2+json",
]);
const MANIFEST_TYPES = new Set([
  "application/vnd.oci.image.manifest.v1+json",
  "application/vnd.docker.distribution.manifest.v2+json",
]);
const CONFIG_TYPES = new Set([
  "application/vnd.oci.image.config.v1+json",
  "application/vnd.docker.container.image.v1+json",
]);
const LAYER_TYPES = new Set([
  "application/vnd.oci.image.layer.v1.tar",
  "application/vnd.oci.image.layer.v1.tar+gzip",
  "application/vnd.oci.image.layer.v1.tar+zstd",
  "application/vnd.docker.image.rootfs.diff.tar",
  "application/vnd.docker.image.rootfs.diff.tar.gzip",
  "application/vnd.docker.image.rootfs.diff.tar.zstd",
]);

/** Opens an OCI image layout in a directory. */
export async function openOciDirectory(
  spec: string,
  path: string,
  tag: string | undefined,
): Promise<ImageSource> {
  return await openLayout("oci", spec, path, tag, async (name) => {
    try {
      return await new LocalFile(join(path, name)).whole();
    } catch (error) {
      if (error instanceof ImageError && error.code === "SOURCE_NOT_FOUND") return undefined;
      throw error;
    }
  });
}

/** Opens an OCI image layout in a tar archive, without unpacking it. */
export async function openOciArchive(
  spec: string,
  path: string,
  tag: string | undefined,
): Promise<ImageSource> {
  const index = await indexArchive(path);
  return await openLayout("oci-archive", spec, path, tag, (name) => Promise.resolve(index.find(name)));
}

interface Descriptor {
  readonly mediaType: string;
  readonly digest: Digest;
  readonly size: number;
  readonly field: Field;
}

function descriptorOf(field: Field): Descriptor {
  const mediaType = stringOf(member(field, "mediaType"), 256);
  const digest = parseDigest(member(field, "digest").value);
  return { mediaType, digest, size: sizeOf(member(field, "size")), field };
}

async function openLayout(
  kind: "oci" | "oci-archive",
  spec: string,
  path: string,
  tag: string | undefined,
  find: Find,
): Promise<ImageSource> {
  const layout = await find("oci-layout");
  const top = await find("index.json");
  if (layout === undefined || top === undefined) {
    const missing = layout === undefined ? "oci-layout" : "index.json";
    throw new ImageError("SOURCE_UNSUPPORTED", `${path} has no ${missing}, so it is no OCI image layout`);
  }
  const marker = parseDocument(
    await readRegion(layout, MAX_DOCUMENT_BYTES, "oci-layout"),
    `${path}: oci-layout`,
  );
  const version = stringOf(member(marker, "imageLayoutVersion"), 64);
  if (!version.startsWith("1.")) {
    throw new ImageError("SOURCE_UNSUPPORTED", `${path}: image layout version ${version}, expected 1.x`);
  }
  const index = parseDocument(await readRegion(top, MAX_DOCUMENT_BYTES, "index.json"), `${path}: index.json`);
  let chosen = selectTag(manifestsOf(index), kind, path, tag);
  for (let depth = 0; INDEX_TYPES.has(chosen.mediaType); depth++) {
    if (depth === MAX_INDEX_DEPTH) {
      throw new ImageError("LIMIT_EXCEEDED", `${path}: indexes nest deeper than ${MAX_INDEX_DEPTH}`);
    }
    chosen = selectPlatform(manifestsOf(await readDocument(find, chosen, path)), path);
  }
  if (!MANIFEST_TYPES.has(chosen.mediaType)) {
    throw new ImageError(
      "SOURCE_UNSUPPORTED",
      `${path}: ${chosen.digest} is ${chosen.mediaType}, not an image`,
    );
  }
  const manifest = await readDocument(find, chosen, path);
  const configDescriptor = descriptorOf(member(manifest, "config"));
  if (!CONFIG_TYPES.has(configDescriptor.mediaType)) {
    throw new ImageError(
      "SOURCE_UNSUPPORTED",
      `${path}: ${chosen.digest} is an artifact (${configDescriptor.mediaType}), not an image`,
    );
  }
  const configBytes = await readBlob(find, configDescriptor, path);
  const { config, diffIds } = parseConfig(configBytes, `${path}: configuration ${configDescriptor.digest}`);
  const descriptors = elementsOf(member(manifest, "layers"), MAX_LAYERS).map(descriptorOf);
  if (descriptors.length !== diffIds.length) {
    throw new ImageError(
      "IMAGE_MALFORMED",
      `${path}: the manifest lists ${descriptors.length} layers, the configuration ${diffIds.length}`,
    );
  }
  const layers: Layer[] = [];
  for (const [i, descriptor] of descriptors.entries()) {
    const what = layerName(i, descriptors.length, descriptor.digest);
    if (!LAYER_TYPES.has(descriptor.mediaType)) {
      const why = /foreign|nondistributable/.test(descriptor.mediaType)
        ? "its content is elsewhere and cannot be sealed"
        : "not a layer this can unpack";
      throw new ImageError("LAYER_REFUSED", `${what} is ${descriptor.mediaType}: ${why}`);
    }
    const region = await findBlob(find, descriptor, path);
    layers.push({ region, blob: descriptor.digest, diffId: diffIds[i] as Digest, what });
  }
  return {
    kind,
    spec,
    config,
    configDigest: configDescriptor.digest,
    layers: diffIds,
    content: { layers },
    close: () => Promise.resolve(),
  };
}

function manifestsOf(index: Field): Descriptor[] {
  return elementsOf(member(index, "manifests"), MAX_MANIFESTS).map(descriptorOf);
}

async function findBlob(find: Find, descriptor: Descriptor, path: string): Promise<Region> {
  const region = await find(`blobs/sha256/${hexOf(descriptor.digest)}`);
  if (region === undefined) {
    throw new ImageError("IMAGE_MALFORMED", `${path} has no blob ${descriptor.digest}, which it names`);
  }
  if (region.size !== descriptor.size) {
    throw new ImageError(
      "DIGEST_MISMATCH",
      `${path}: blob ${descriptor.digest} has ${region.size} bytes, expected ${descriptor.size}`,
    );
  }
  return region;
}

async function readBlob(find: Find, descriptor: Descriptor, path: string): Promise<Buffer> {
  const bytes = await readRegion(
    await findBlob(find, descriptor, path),
    MAX_DOCUMENT_BYTES,
    descriptor.digest,
  );
  const found = digestOf(bytes);
  if (found !== descriptor.digest) {
    throw new ImageError(
      "DIGEST_MISMATCH",
      `${path}: blob has digest ${found}, expected ${descriptor.digest}`,
    );
  }
  return bytes;
}

async function readDocument(find: Find, descriptor: Descriptor, path: string): Promise<Field> {
  return parseDocument(await readBlob(find, descriptor, path), `${path}: ${descriptor.digest}`);
}

function annotation(descriptor: Descriptor, key: string): string | undefined {
  const annotations = member(descriptor.field, "annotations");
  if (absent(annotations)) return undefined;
  const value = member(annotations, key);
  return absent(value) ? undefined : stringOf(value, 4096);
}

/** BuildKit stores provenance beside an image as manifests of their own. */
function isAttestation(descriptor: Descriptor): boolean {
  return annotation(descriptor, "vnd.docker.reference.type") === "attestation-manifest";
}

function selectTag(
  all: Descriptor[],
  kind: "oci" | "oci-archive",
  path: string,
  tag: string | undefined,
): Descriptor {
  const images = all.filter((descriptor) => !isAttestation(descriptor));
  const tags = [...new Set(images.map((d) => annotation(d, REF_NAME)).filter((name) => name !== undefined))];
  const listed = tags.length === 0 ? "it has none" : `it has ${tags.join(", ")}`;
  if (images.length === 0) throw new ImageError("SOURCE_NOT_FOUND", `${path} holds no image`);
  if (tag === undefined) {
    if (tags.length > 1) {
      throw new ImageError("SOURCE_AMBIGUOUS", `${path} holds ${tags.length} tags`, {
        hint: `Name one, as in ${kind}:${path}:${tags[0]}; ${listed}.`,
      });
    }
    return images.length === 1 ? (images[0] as Descriptor) : selectPlatform(images, path);
  }
  const found = images.filter((descriptor) => annotation(descriptor, REF_NAME) === tag);
  if (found.length === 0) {
    throw new ImageError("SOURCE_NOT_FOUND", `${path} has no tag ${tag}`, {
      hint: `Look at its tags: ${listed}.`,
    });
  }
  return found.length === 1 ? (found[0] as Descriptor) : selectPlatform(found, path);
}

/** The one linux/amd64 image of an index; of several, the one without a variant (v2, v3 need newer CPUs). */
function selectPlatform(all: Descriptor[], path: string): Descriptor {
  const seen: string[] = [];
  const found: { descriptor: Descriptor; variant: string }[] = [];
  for (const descriptor of all) {
    if (isAttestation(descriptor)) continue;
    const platform = member(descriptor.field, "platform");
    if (absent(platform)) {
      seen.push("no platform");
      continue;
    }
    const name = `${stringOf(member(platform, "os"), 64)}/${stringOf(member(platform, "architecture"), 64)}`;
    const variantField = member(platform, "variant");
    const variant = absent(variantField) ? "" : stringOf(variantField, 64);
    seen.push(variant === "" ? name : `${name}/${variant}`);
    if (name === "linux/amd64") found.push({ descriptor, variant });
  }
  const plain = found.filter(({ variant }) => variant === "" || variant === "v1");
  const digests = new Set(plain.map(({ descriptor }) => descriptor.digest));
  if (digests.size > 1) {
    throw new ImageError("SOURCE_AMBIGUOUS", `${path} holds ${digests.size} different linux/amd64 images`);
  }
  const chosen = plain[0];
  if (chosen === undefined) {
    const have = seen.length === 0 ? "nothing" : [...new Set(seen)].slice(0, 20).join(", ");
    throw new ImageError("PLATFORM_ABSENT", `${path} holds no linux/amd64 image, only ${have}`);
  }
  return chosen.descriptor;
}
