import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { EMPTY_CONFIG } from "./config.ts";
import { openDockerArchive } from "./docker.ts";
import { ImageError } from "./errors.ts";
import { openOciArchive, openOciDirectory } from "./oci.ts";
import type { ImageSource } from "./source.ts";

/**
 * Opens what a person named: `docker-archive:FILE[:REPO:TAG]`, `oci:DIR[:TAG]`, `oci-archive:FILE[:TAG]`, or
 * the path of a directory that is a root file system as it stands.
 */
export async function openSource(spec: string): Promise<ImageSource> {
  const match = /^(docker-archive|oci|oci-archive|dir):(.+)$/s.exec(spec);
  const rest = match?.[2] ?? "";
  switch (match?.[1]) {
    case "docker-archive": {
      const { path, tag } = split(rest, "file");
      return await openDockerArchive(spec, path, tag);
    }
    case "oci-archive": {
      const { path, tag } = split(rest, "file");
      return await openOciArchive(spec, path, tag);
    }
    case "oci": {
      const { path, tag } = split(rest, "directory");
      return await openOciDirectory(spec, path, tag);
    }
    case "dir":
      return openDirectory(spec, rest);
    default:
      return openDirectory(spec, spec);
  }
}

/** Splits `PATH[:TAG]` where a file of that name exists: paths may hold colons. */
function split(text: string, kind: "file" | "directory"): { path: string; tag: string | undefined } {
  for (let end = text.length; end > 0; end = text.lastIndexOf(":", end - 1)) {
    const path = text.slice(0, end);
    if (!existsSync(path)) continue;
    if (statSync(path).isDirectory() !== (kind === "directory")) {
      throw new ImageError(
        "SOURCE_UNSUPPORTED",
        `${path} is ${kind === "file" ? "a directory" : "not a directory"}`,
        {
          hint:
            kind === "file"
              ? `Say oci:${path} for an OCI layout.`
              : `Say oci-archive:${path} for an archive.`,
        },
      );
    }
    const tag = text.slice(end + 1);
    return { path, tag: tag === "" ? undefined : tag };
  }
  throw new ImageError("SOURCE_NOT_FOUND", `no such ${kind}: ${text}`);
}

function openDirectory(spec: string, path: string): ImageSource {
  if (!existsSync(path)) {
    throw new ImageError("SOURCE_NOT_FOUND", `no such directory: ${path}`, {
      hint: "A source is a directory, docker-archive:FILE, oci:DIR[:TAG] or oci-archive:FILE[:TAG]; registries are not read: save the image first.",
    });
  }
  if (!statSync(path).isDirectory()) {
    throw new ImageError("SOURCE_UNSUPPORTED", `${path} is a file, a bare path names a directory`, {
      hint: `Say docker-archive:${path} for what docker save wrote, oci-archive:${path} for an OCI archive.`,
    });
  }
  if (existsSync(join(path, "oci-layout")) && existsSync(join(path, "index.json"))) {
    throw new ImageError(
      "SOURCE_UNSUPPORTED",
      `${path} is an OCI image layout, a bare path names a root file system`,
      {
        hint: `Say oci:${path}`,
      },
    );
  }
  return {
    kind: "directory",
    spec,
    config: EMPTY_CONFIG,
    configDigest: null,
    layers: [],
    content: { directory: path },
    close: () => Promise.resolve(),
  };
}
