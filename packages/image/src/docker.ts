import { type Digest, digestOf, parseDigest } from "@shelter/base";
import { type ArchiveIndex, indexArchive } from "./archive.ts";
import { parseConfig } from "./config.ts";
import { elementsOf, type Field, member, parseDocument, stringOf } from "./document.ts";
import { ImageError } from "./errors.ts";
import { MAX_DOCUMENT_BYTES, MAX_LAYERS } from "./limits.ts";
import { type Region, readRegion } from "./region.ts";
import { type ImageSource, type Layer, layerName } from "./source.ts";

const MAX_IMAGES = 1024;
const MAX_TAGS = 1024;

/**
 * Opens a `docker save` archive by its manifest.json, which both the old form and the one that also holds
 * an OCI layout (Docker 25 and later) have.
 */
export async function openDockerArchive(
  spec: string,
  path: string,
  tag: string | undefined,
): Promise<ImageSource> {
  const index = await indexArchive(path);
  const region = index.find("manifest.json");
  if (region === undefined) {
    throw new ImageError(
      "SOURCE_UNSUPPORTED",
      `${path} has no manifest.json, so it is no docker save archive`,
      {
        hint:
          index.find("index.json") !== undefined ? `Say oci-archive:${path}` : "Make one with docker save.",
      },
    );
  }
  const document = parseDocument(
    await readRegion(region, MAX_DOCUMENT_BYTES, "manifest.json"),
    `${path}: manifest.json`,
  );
  const image = selectImage(elementsOf(document, MAX_IMAGES), path, tag);
  const configPath = stringOf(member(image, "Config"), 4096);
  const bytes = await readRegion(need(index, configPath), MAX_DOCUMENT_BYTES, configPath);
  const configDigest = digestOf(bytes);
  const claimed = claimedDigest(configPath);
  if (claimed !== undefined && claimed !== configDigest) {
    throw new ImageError(
      "DIGEST_MISMATCH",
      `${path}: ${configPath} has digest ${configDigest}, expected ${claimed}`,
    );
  }
  const { config, diffIds } = parseConfig(bytes, `${path}: ${configPath}`);
  const names = elementsOf(member(image, "Layers"), MAX_LAYERS).map((field) => stringOf(field, 4096));
  if (names.length !== diffIds.length) {
    throw new ImageError(
      "IMAGE_MALFORMED",
      `${path}: manifest.json lists ${names.length} layers, the configuration ${diffIds.length}`,
    );
  }
  const layers = names.map((name, i): Layer => {
    const diffId = diffIds[i] as Digest;
    return {
      region: need(index, name),
      blob: name.startsWith("blobs/sha256/") ? claimedDigest(name) : undefined,
      diffId,
      what: layerName(i, names.length, diffId),
    };
  });
  return {
    kind: "docker-archive",
    spec,
    config,
    configDigest,
    layers: diffIds,
    content: { layers },
    close: () => Promise.resolve(),
  };
}

function selectImage(images: Field[], path: string, tag: string | undefined): Field {
  const tagsOf = (image: Field): string[] =>
    elementsOf(member(image, "RepoTags"), MAX_TAGS).map((field) => stringOf(field, 1024));
  if (images.length === 0) throw new ImageError("SOURCE_NOT_FOUND", `${path} holds no image`);
  const all = images.flatMap(tagsOf);
  const listed = all.length === 0 ? "it has no tags" : `it has ${all.join(", ")}`;
  if (tag === undefined) {
    if (images.length > 1) {
      throw new ImageError("SOURCE_AMBIGUOUS", `${path} holds ${images.length} images`, {
        hint: `Name one, as in docker-archive:${path}:REPO:TAG; ${listed}.`,
      });
    }
    return images[0] as Field;
  }
  const wanted = normalTag(tag);
  const found = images.filter((image) => tagsOf(image).some((have) => normalTag(have) === wanted));
  if (found.length !== 1) {
    const code = found.length === 0 ? "SOURCE_NOT_FOUND" : "SOURCE_AMBIGUOUS";
    throw new ImageError(code, `${path} holds ${found.length === 0 ? "no image" : "several images"} ${tag}`, {
      hint: `Look at the tags: ${listed}.`,
    });
  }
  return found[0] as Field;
}

/** `docker.io/library/demo:1`, `library/demo:1` and `demo:1` are one name to Docker. */
function normalTag(tag: string): string {
  const short = tag.replace(/^(?:index\.)?docker\.io\//, "").replace(/^library\//, "");
  return short.lastIndexOf(":") > short.lastIndexOf("/") ? short : `${short}:latest`;
}

function need(index: ArchiveIndex, name: string): Region {
  const region = index.find(name);
  if (region === undefined) {
    throw new ImageError(
      "IMAGE_MALFORMED",
      `${index.path} has no ${JSON.stringify(name)}, which its manifest names`,
    );
  }
  return region;
}

/** The digest a file is named after, where it is: `blobs/sha256/<hex>`, `<hex>.json`, `sha256:<hex>`. */
function claimedDigest(name: string): Digest | undefined {
  const match = /(?:^|\/|sha256:)([0-9a-f]{64})(?:\.json)?$/.exec(name);
  return match === null ? undefined : parseDigest(`sha256:${match[1]}`);
}
