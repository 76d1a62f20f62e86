import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { join, resolve } from "node:path";
import { type Digest, finishDigest, parseJson } from "@shelter/base";
import { SealError } from "./errors.ts";

/** The directory with the guest's kernel, modules and agent: `SHELTER_ASSETS`, else `build/guest` of the checkout. */
export function assetsDirectory(env: NodeJS.ProcessEnv = process.env): string {
  return env["SHELTER_ASSETS"] ?? resolve(import.meta.dirname, "../../../build/guest");
}

/** What every guest boots from, found complete. */
export type Assets = {
  readonly kernel: string;
  readonly kernelVersion: string;
  readonly modules: string;
  readonly agent: string;
  /** What the set-up wrote down of kernel and modules: package, version, digest. */
  readonly record: string;
};

/** Finds the guest's parts or says how to get them. */
export function openAssets(directory: string = assetsDirectory()): Assets {
  const parts = {
    kernel: join(directory, "vmlinuz"),
    modules: join(directory, "modules"),
    agent: join(directory, "agent"),
  };
  const record = join(directory, "kernel.json");
  for (const path of [...Object.values(parts), record]) {
    if (!existsSync(path)) {
      throw new SealError("ASSETS_MISSING", "unavailable", `the guest's parts are not there: no ${path}`, {
        hint: "run npm start or bash tools/setup.sh once; they fetch the kernel and build the agent",
      });
    }
  }
  const text = readFileSync(record, "utf8");
  const json = parseJson(text, record);
  const release =
    json !== null && typeof json === "object" && "release" in json ? json["release"] : undefined;
  if (typeof release !== "string") {
    throw new SealError("ASSETS_MISSING", "malformed", `${record} names no kernel release`, {
      hint: `remove ${directory} and run bash tools/setup.sh`,
    });
  }
  return { ...parts, kernelVersion: release, record: text };
}

const PIECE = 1 << 20;

/** SHA-256 of a file, read in pieces. */
export async function digestFile(path: string): Promise<Digest> {
  const hash = createHash("sha256");
  const file = await open(path, "r");
  try {
    // One buffer for all of it: a stream makes one per piece, and collecting them costs more than hashing does.
    const buffer = Buffer.allocUnsafeSlow(PIECE);
    for (;;) {
      const { bytesRead } = await file.read(buffer, 0, PIECE, null);
      if (bytesRead === 0) return finishDigest(hash);
      hash.update(buffer.subarray(0, bytesRead));
    }
  } finally {
    await file.close();
  }
}
