import { deepEqual } from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { DEFAULT_FIRMWARE, measure } from "@shelter/seal";
import { measurable } from "../../../packages/seal/test/support/image.ts";
import { differences } from "../src/verbs/measure-diff.ts";

const skip = existsSync(DEFAULT_FIRMWARE) ? false : `no firmware at ${DEFAULT_FIRMWARE}`;
/** A real boot of another image under this firmware, with 1 CPU and 512 MiB. */
const BOOT = join(import.meta.dirname, "../../../packages/attest/test/fixtures/vtpm-boot.json");

test("against the log of a real boot only what was another is named", { skip }, async (t) => {
  const directory = mkdtempSync(join(tmpdir(), "shelter-diff-"));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const record = measurable(directory);
  const { log } = JSON.parse(readFileSync(BOOT, "utf8")) as { log: string };
  const evidence = [{ name: "log", bytes: new Uint8Array(Buffer.from(log, "base64")) }];
  const components = async (cpus: number, memory: number): Promise<string[]> => {
    const request = { imageDirectory: directory, platform: "vtpm", cpus, memory: memory * 2 ** 20 } as const;
    const measurement = await measure(request);
    const found = await differences(measurement, {
      request,
      record,
      firmware: undefined,
      images: [],
      evidence,
    });
    return found.map((d) => (d.component === "vCPUs" ? `vCPUs ${d.measured}` : d.component));
  };
  deepEqual(await components(1, 512), ["kernel", "command line", "initrd"]);
  deepEqual(await components(2, 512), ["vCPUs 1", "kernel", "command line", "initrd"]);
  deepEqual(await components(1, 256), ["firmware or memory", "kernel", "command line", "initrd"]);
});
