import {
  canonicalJson,
  type Digest,
  digestOf,
  type Json,
  type JsonObject,
  parseDigest,
  parseJson,
} from "@shelter/base";
import { readMeasured } from "./cmdline.ts";
import { SealError } from "./errors.ts";
import type { ImageFile, ImageRecord } from "./sealed.ts";

const FILES: readonly ImageFile[] = ["kernel", "initrd", "root.squashfs", "root.verity", "manifest.json"];

/** SHA-256 of what boots: shape, command line and files, wherever they came from. */
export function identityOf(record: Pick<ImageRecord, "shape" | "cmdline" | "files">): Digest {
  const { shape, cmdline, files } = record;
  return digestOf(canonicalJson({ version: 1, shape, cmdline, files }));
}

/** Reads `image.json` and checks that its identity is the digest of what it lists. */
export function decodeRecord(bytes: Uint8Array, what: string): ImageRecord {
  const bad = (problem: string): SealError =>
    new SealError("IMAGE_DAMAGED", "malformed", `${what}: ${problem}`, { hint: "build the image again" });
  const object = (value: Json | undefined, name: string): JsonObject => {
    if (value === null || typeof value !== "object" || Array.isArray(value))
      throw bad(`${name} is not an object`);
    return value as JsonObject;
  };
  const text = (value: Json | undefined, name: string): string => {
    if (typeof value !== "string") throw bad(`${name} is not text`);
    return value;
  };
  const json = object(parseJson(Buffer.from(bytes).toString("utf8"), what), "the document");
  if (json["version"] !== 1) throw bad("its version is not 1");
  const shape = json["shape"];
  if (shape !== "disk" && shape !== "initrd") throw bad("its shape is neither disk nor initrd");
  const cmdline = text(json["cmdline"], "cmdline");
  const listed = object(json["files"], "files");
  const files: { [F in ImageFile]?: { digest: Digest; size: number } } = {};
  for (const [name, value] of Object.entries(listed)) {
    const file = FILES.find((f) => f === name);
    const { digest, size } = object(value, name);
    if (file === undefined || typeof size !== "number" || !Number.isSafeInteger(size) || size < 0) {
      throw bad(`file ${JSON.stringify(name)} is not as it should be`);
    }
    files[file] = { digest: parseDigest(digest), size };
  }
  const wanted = shape === "disk" ? FILES : FILES.filter((f) => !f.startsWith("root."));
  if (wanted.some((f) => files[f] === undefined) || Object.keys(files).length !== wanted.length) {
    throw bad(`an image of shape ${shape} has other files`);
  }
  if (readMeasured(cmdline)?.manifest !== files["manifest.json"]?.digest) {
    throw bad("the command line names another manifest");
  }
  const source = object(json["source"], "source");
  const guest = object(json["guest"], "guest");
  const layers = source["layers"];
  const record: ImageRecord = {
    version: 1,
    identity: parseDigest(json["identity"]),
    shape,
    cmdline,
    created: null,
    files,
    source: {
      kind: text(source["kind"], "source.kind"),
      ...(source["config"] !== undefined && { config: parseDigest(source["config"]) }),
      ...(Array.isArray(layers) && { layers: layers.map(parseDigest) }),
    },
    guest: {
      kernelVersion: text(guest["kernelVersion"], "guest.kernelVersion"),
      agent: parseDigest(guest["agent"]),
    },
  };
  if (identityOf(record) !== record.identity) throw bad("its identity is not that of what it lists");
  return record;
}
