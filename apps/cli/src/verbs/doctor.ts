import { stateDirectory } from "@shelter/base";
import { assetsDirectory, openAssets } from "@shelter/seal";
import { findProgram, type HostPart, probeHost, TpmFactory } from "@shelter/vm";
import { printable, printJson, styled } from "../terminal.ts";

/** Programs `shelter build` uses, with the Debian package each comes from. */
const BUILD_TOOLS: readonly (readonly [string, string, string])[] = [
  ["tar2sqfs", "squashfs-tools-ng", "sealing images: the read-only root"],
  ["veritysetup", "cryptsetup-bin", "sealing images: the hash tree"],
  ["xz", "xz-utils", "predicting measurements: unpacking the firmware"],
];

function buildParts(): HostPart[] {
  const parts: HostPart[] = BUILD_TOOLS.map(([name, from, gives]) => {
    const path = findProgram(name);
    return path === null
      ? { name, present: false, detail: "not found", gives, remedy: `apt-get install ${from}` }
      : { name, present: true, detail: path, gives };
  });
  try {
    const { kernelVersion } = openAssets();
    parts.push({
      name: "guest-parts",
      present: true,
      detail: `kernel ${kernelVersion} and agent in ${assetsDirectory()}`,
      gives: "sealing images",
    });
  } catch (error) {
    parts.push({
      name: "guest-parts",
      present: false,
      detail: error instanceof Error ? error.message : String(error),
      gives: "sealing images: the guest's kernel, modules and agent",
      remedy: "run: bash tools/setup.sh",
    });
  }
  return parts;
}

/** `shelter doctor`. */
export async function doctor(options: { json?: boolean }): Promise<void> {
  const state = stateDirectory();
  const host = await probeHost({ state });
  const parts = [...host.parts, ...buildParts()];
  const authority = new TpmFactory(state).authorityFiles;
  if (options.json === true) {
    printJson({
      parts,
      platforms: host.platforms,
      accelerator: host.accelerator,
      state,
      tpmAuthority: authority,
    });
    return;
  }
  const mark = (ok: boolean): string => (ok ? styled("green", "✓") : styled("red", "✗"));
  const lines = [styled("bold", "parts")];
  for (const part of parts) {
    lines.push(`  ${mark(part.present)} ${part.name.padEnd(14)} ${printable(part.detail)}`);
    if (!part.present) {
      lines.push(styled("dim", `    gives: ${part.gives}`));
      if (part.remedy !== undefined) lines.push(styled("dim", `    get it: ${part.remedy}`));
    }
  }
  lines.push("", styled("bold", "platforms"));
  for (const { platform, available, missing } of host.platforms) {
    lines.push(
      `  ${mark(available)} ${platform.padEnd(14)} ${available ? "can run here" : `missing: ${missing.join(", ")}`}`,
    );
  }
  lines.push("", `state in ${state}; certificates of this user's own TPM authority: ${authority.join(", ")}`);
  process.stdout.write(`${lines.join("\n")}\n`);
}
