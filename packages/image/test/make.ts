import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Writable } from "node:stream";
import type { TestContext } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { type FlatTree, flatten, openSource } from "../src/index.ts";
import type { FlattenLimits } from "../src/limits.ts";

/** A tar header written by hand, so that the reader is not tested against our own writer. */
export interface Header {
  name: string;
  type?: string;
  link?: string;
  mode?: number;
  uid?: number;
  gid?: number;
  mtime?: number;
  /** Overrides the size of `data`. */
  size?: number;
  major?: number;
  minor?: number;
  magic?: string;
  data?: Buffer | string;
  pax?: Record<string, string | Buffer> | [string, string][];
  /** Last changes to the header block; the checksum is made after them. */
  patch?: (block: Buffer) => void;
}

function octal(value: number, length: number): string {
  return `${value.toString(8).padStart(length - 1, "0")}\0`;
}

export function header(h: Header): Buffer {
  const block = Buffer.alloc(512);
  const data = Buffer.from(h.data ?? "");
  block.write(h.name, 0, 100, "latin1");
  block.write(octal(h.mode ?? (h.type === "5" ? 0o755 : 0o644), 8), 100, "latin1");
  block.write(octal(h.uid ?? 0, 8), 108, "latin1");
  block.write(octal(h.gid ?? 0, 8), 116, "latin1");
  block.write(octal(h.size ?? data.length, 12), 124, "latin1");
  block.write(octal(h.mtime ?? 0, 12), 136, "latin1");
  block.write(h.type ?? "0", 156, "latin1");
  block.write(h.link ?? "", 157, 100, "latin1");
  block.write(h.magic ?? "ustar\x0000", 257, "latin1");
  block.write(octal(h.major ?? 0, 8), 329, "latin1");
  block.write(octal(h.minor ?? 0, 8), 337, "latin1");
  h.patch?.(block);
  return sum(block);
}

export function sum(block: Buffer): Buffer {
  block.fill(" ", 148, 156);
  const total = block.reduce((a, b) => a + b, 0);
  block.write(`${total.toString(8).padStart(6, "0")}\0 `, 148, "latin1");
  return block;
}

export function pad(data: Buffer): Buffer {
  return Buffer.concat([data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

export function paxBody(records: Iterable<readonly [string, string | Buffer]>): Buffer {
  const parts: Buffer[] = [];
  for (const [key, value] of records) {
    const rest = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value), Buffer.from("\n")]);
    let length = rest.length + 1;
    while (String(length).length + rest.length !== length) length = String(length).length + rest.length;
    parts.push(Buffer.from(String(length)), rest);
  }
  return Buffer.concat(parts);
}

export function entry(h: Header): Buffer {
  const parts: Buffer[] = [];
  if (h.pax !== undefined) {
    const body = paxBody(Array.isArray(h.pax) ? h.pax : Object.entries(h.pax));
    parts.push(header({ name: "PaxHeaders/x", type: "x", data: body }), pad(body));
  }
  parts.push(header(h), pad(Buffer.from(h.data ?? "")));
  return Buffer.concat(parts);
}

/** A whole archive with its end marker. */
export function tar(...entries: (Header | Buffer)[]): Buffer {
  return Buffer.concat([...entries.map((e) => (Buffer.isBuffer(e) ? e : entry(e))), Buffer.alloc(1024)]);
}

export const dir = (name: string, more: Partial<Header> = {}): Header => ({ name, type: "5", ...more });
export const file = (name: string, data = "", more: Partial<Header> = {}): Header => ({
  name,
  data,
  ...more,
});
export const symlink = (name: string, link: string, more: Partial<Header> = {}): Header => ({
  name,
  type: "2",
  link,
  mode: 0o777,
  ...more,
});
export const link = (name: string, target: string, more: Partial<Header> = {}): Header => ({
  name,
  type: "1",
  link: target,
  ...more,
});

export const sha = (data: Buffer | string): string => createHash("sha256").update(data).digest("hex");

export type Packing = "none" | "gzip" | "zstd";

export function pack(layer: Buffer, packing: Packing): Buffer {
  if (packing === "gzip") return gzipSync(layer);
  return packing === "zstd" ? zstdCompressSync(layer) : layer;
}

export interface ImageOptions {
  packing?: Packing;
  /** Blobs to store instead of the packed layers. */
  blobs?: Buffer[];
  config?: object;
  platform?: { os: string; architecture: string };
  diffIds?: string[];
  layerType?: string;
  tag?: string;
}

/** Writes an OCI layout of these layers into a directory; returns the manifest's descriptor. */
export function writeOci(path: string, layers: Buffer[], options: ImageOptions = {}): object {
  const { packing = "none" } = options;
  mkdirSync(join(path, "blobs/sha256"), { recursive: true });
  const put = (data: Buffer | string): { digest: string; size: number } => {
    writeFileSync(join(path, "blobs/sha256", sha(data)), data);
    return { digest: `sha256:${sha(data)}`, size: Buffer.byteLength(data) };
  };
  const suffix = packing === "none" ? "" : `+${packing}`;
  const config = put(configOf(layers, options));
  const manifest = put(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: "application/vnd.oci.image.manifest.v1+json",
      config: { mediaType: "application/vnd.oci.image.config.v1+json", ...config },
      layers: (options.blobs ?? layers.map((layer) => pack(layer, packing))).map((blob) => ({
        mediaType: options.layerType ?? `application/vnd.oci.image.layer.v1.tar${suffix}`,
        ...put(blob),
      })),
    }),
  );
  const descriptor = {
    mediaType: "application/vnd.oci.image.manifest.v1+json",
    ...manifest,
    annotations: { "org.opencontainers.image.ref.name": options.tag ?? "latest" },
  };
  writeIndex(path, [descriptor]);
  return descriptor;
}

export function writeIndex(path: string, manifests: object[]): void {
  writeFileSync(join(path, "oci-layout"), '{"imageLayoutVersion":"1.0.0"}');
  writeFileSync(join(path, "index.json"), JSON.stringify({ schemaVersion: 2, manifests }));
}

function configOf(layers: Buffer[], options: ImageOptions): string {
  return JSON.stringify({
    ...(options.platform ?? { os: "linux", architecture: "amd64" }),
    config: options.config ?? {},
    rootfs: { type: "layers", diff_ids: options.diffIds ?? layers.map((layer) => `sha256:${sha(layer)}`) },
  });
}

/** A `docker save` archive in the form from before Docker 25. */
export function dockerArchive(layers: Buffer[], tags: string[], options: ImageOptions = {}): Buffer {
  const config = configOf(layers, options);
  const names = layers.map((layer) => `${sha(`${sha(layer)}id`)}/layer.tar`);
  const manifest = [{ Config: `${sha(config)}.json`, RepoTags: tags, Layers: names }];
  return tar(
    file(`${sha(config)}.json`, config),
    ...layers.map((layer, i) => file(names[i] ?? "", "", { data: layer })),
    file("manifest.json", JSON.stringify(manifest)),
  );
}

/** A directory that is gone after the test. */
export function scratch(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "shelter-image-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** Flattens hand-made layers. */
export async function flattenLayers(
  t: TestContext,
  layers: Buffer[],
  options: ImageOptions & { limits?: Partial<FlattenLimits> } = {},
): Promise<FlatTree> {
  const path = join(scratch(t), "image");
  writeOci(path, layers, options);
  return await flatten(await openSource(`oci:${path}`), { limits: options.limits ?? {} });
}

/** What `writeTar` writes. */
export async function written(tree: FlatTree): Promise<Buffer> {
  const chunks: Buffer[] = [];
  await tree.writeTar(
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        chunks.push(Buffer.from(chunk));
        done();
      },
    }),
  );
  return Buffer.concat(chunks);
}

/** One name of an archive, read by a small reader of the test's own: `ls -l` in a line, and the content. */
export interface Listed {
  line: string;
  data: string;
}

/** Lists a ustar archive with PAX headers, by name. */
export function list(archive: Buffer): Map<string, Listed> {
  const out = new Map<string, Listed>();
  let pax = new Map<string, string>();
  for (let at = 0; archive[at] !== 0; ) {
    const block = archive.subarray(at, at + 512);
    const text = (from: number, length: number): string =>
      block.toString("latin1", from, from + length).replace(/\0.*$/s, "");
    const number = (from: number, length: number): number => parse8(text(from, length));
    const type = text(156, 1);
    const size = number(124, 12);
    const data = archive.subarray(at + 512, at + 512 + size);
    at += 512 + Math.ceil(size / 512) * 512;
    if (type === "x") {
      pax = parseRecords(data);
      continue;
    }
    const target = pax.get("linkpath") ?? text(157, 100);
    const owner = `${pax.get("uid") ?? number(108, 8)}:${pax.get("gid") ?? number(116, 8)}`;
    const attributes = [...pax]
      .filter(([key]) => key.startsWith("SCHILY.xattr."))
      .map(([key, value]) => ` ${key.slice(13)}=${Buffer.from(value, "latin1").toString("hex")}`);
    const device = type === "3" || type === "4" ? ` ${number(329, 8)}:${number(337, 8)}` : "";
    const arrow = target === "" ? "" : ` -> ${target}`;
    out.set((pax.get("path") ?? text(0, 100)).replace(/^\.\//, ""), {
      line: `${type} ${number(100, 8).toString(8)} ${owner} ${number(136, 12)}${device}${arrow}${attributes.join("")}`,
      data: data.toString("latin1"),
    });
    pax = new Map();
  }
  return out;
}

function parseRecords(data: Buffer): Map<string, string> {
  const records = new Map<string, string>();
  for (let at = 0; at < data.length; ) {
    const length = Number.parseInt(data.toString("latin1", at, at + 10), 10);
    const [, key = "", value = ""] =
      /^[0-9]+ ([^=]*)=(.*)$/s.exec(data.toString("latin1", at, at + length - 1)) ?? [];
    records.set(key, value);
    at += length;
  }
  return records;
}

function parse8(text: string): number {
  return Number.parseInt(text, 8);
}

/** Names of the flattened layers, without the root. */
export async function namesOf(tree: FlatTree): Promise<string[]> {
  return [...list(await written(tree)).keys()].filter((name) => name !== "").sort();
}
