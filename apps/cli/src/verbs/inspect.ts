import { ShelterError, stateDirectory } from "@shelter/base";
import { ImageStore, SealError, verifyImage } from "@shelter/seal";
import { findInstance, VmError } from "@shelter/vm";
import { printJson } from "../terminal.ts";

/** `shelter inspect`: images and instances by name or identity, as JSON. */
export async function inspect(names: readonly string[], options: { verify?: boolean }): Promise<void> {
  const state = stateDirectory();
  const found: object[] = [];
  for (const name of names) found.push(await one(state, name, options.verify === true));
  printJson(found);
}

async function one(state: string, name: string, verify: boolean): Promise<object> {
  try {
    const { identity, directory, names, record, manifest } = new ImageStore(state).inspect(name);
    const verified = verify ? { verified: await verifyImage(directory) } : {};
    return { kind: "image", identity, directory, names, record, manifest, ...verified };
  } catch (error) {
    if (!(error instanceof SealError) || (error.code !== "IMAGE_UNKNOWN" && error.code !== "NAME_MALFORMED"))
      throw error;
  }
  try {
    return { kind: "instance", ...findInstance(state, name) };
  } catch (error) {
    if (!(error instanceof VmError) || error.code !== "INSTANCE_UNKNOWN") throw error;
    throw new ShelterError("UNKNOWN", "usage", `there is no image or instance ${JSON.stringify(name)}`, {
      hint: "shelter images and shelter ps -a list what is there",
    });
  }
}
