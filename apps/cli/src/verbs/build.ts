import { existsSync } from "node:fs";
import { type SecretBytes, ShelterError, stateDirectory } from "@shelter/base";
import {
  type BuildStep,
  diskKeyFile,
  ImageStore,
  isResourceUri,
  newDiskKey,
  parseName,
  build as sealImage,
  shortIdentity,
} from "@shelter/seal";
import { Progress, printable, printJson, size, styled } from "../terminal.ts";
import { brokerClient } from "./broker.ts";

interface BuildOptions {
  readonly file?: string;
  readonly tag: readonly string[];
  readonly type: "disk" | "initrd";
  readonly encrypt?: string;
  readonly keyFile?: string;
  readonly broker?: string;
  readonly adminTokenFile?: string;
  readonly ca?: string;
  readonly quiet?: boolean;
  readonly json?: boolean;
}

const STEPS: Readonly<Record<BuildStep, string>> = {
  source: "reading the image",
  initrd: "guest kernel and agent",
  root: "root file system",
  encrypt: "encrypting",
  verity: "hash tree",
  store: "storing",
};

/** The key of an encrypted root: from a file, or new and stored at the broker. */
async function diskKey(uri: string, options: BuildOptions): Promise<SecretBytes> {
  if (!isResourceUri(uri)) {
    throw new ShelterError(
      "KEY_URI",
      "usage",
      `--encrypt takes kbs:///REPOSITORY/TYPE/TAG, not ${JSON.stringify(uri)}`,
    );
  }
  if (options.keyFile !== undefined) return diskKeyFile(options.keyFile);
  if (options.broker === undefined) {
    throw new ShelterError("KEY_NOWHERE", "usage", "--encrypt needs to know where the key is to be kept", {
      hint: "give --key-file FILE to keep it yourself, or --broker URL to have a new one stored there",
    });
  }
  const key = newDiskKey();
  const { adminTokenFile, ca } = options;
  const client = brokerClient({
    broker: options.broker,
    ...(adminTokenFile === undefined ? {} : { adminTokenFile }),
    ...(ca === undefined ? {} : { ca }),
  });
  // Stored before the image exists: an image whose key nobody has would be lost.
  await client.putSecret(uri, key.reveal());
  return key;
}

/** `shelter build`. */
export async function build(source: string, options: BuildOptions): Promise<void> {
  for (const name of options.tag) parseName(name);
  const state = stateDirectory();
  const quiet = options.quiet === true || options.json === true;
  const yaml = options.file ?? (existsSync("shelter.yaml") ? "shelter.yaml" : undefined);
  if (options.file === undefined && yaml !== undefined && !quiet) {
    process.stderr.write("using shelter.yaml of this directory\n");
  }
  const encryption =
    options.encrypt === undefined
      ? undefined
      : { uri: options.encrypt, key: await diskKey(options.encrypt, options) };

  const progress = new Progress({ quiet });
  const abort = new AbortController();
  let signalled: NodeJS.Signals | undefined;
  const stop = (signal: NodeJS.Signals): void => {
    signalled = signal;
    abort.abort();
  };
  process.once("SIGINT", stop);
  process.once("SIGTERM", stop);
  try {
    const { image, notes } = await sealImage(
      { source, yaml, shape: options.type, encryption, name: options.tag[0], state, signal: abort.signal },
      (p) => progress.update(STEPS[p.step], p.done, p.total),
    );
    progress.finish();
    const store = new ImageStore(state);
    for (const name of options.tag.slice(1)) store.tag(image.identity, name);
    for (const note of notes)
      process.stderr.write(`${styled("yellow", "note:", process.stderr)} ${printable(note)}\n`);
    const { identity, directory, record, manifest, names } = store.inspect(image.identity);
    if (options.json === true) {
      printJson({ identity, directory, names, record, manifest });
    } else if (options.quiet === true) {
      process.stdout.write(`${identity}\n`);
    } else {
      const total = Object.values(record.files).reduce((sum, f) => sum + (f?.size ?? 0), 0);
      const called =
        names.length > 0
          ? ` as ${names.join(", ")}`
          : ` (run it with: shelter run ${shortIdentity(identity)})`;
      process.stdout.write(`sealed ${identity}${called}, ${size(total)}\n`);
      if (options.encrypt !== undefined && options.keyFile !== undefined) {
        process.stderr.write(
          `the guest will ask for its key: shelter broker secret set ${options.encrypt} ${printable(options.keyFile)}\n`,
        );
      }
    }
  } catch (error) {
    progress.abandon();
    if (signalled !== undefined) {
      process.stderr.write("stopped; nothing half-made is left\n");
      process.exitCode = signalled === "SIGINT" ? 130 : 143;
      return;
    }
    throw error;
  } finally {
    process.removeListener("SIGINT", stop);
    process.removeListener("SIGTERM", stop);
    encryption?.key.wipe();
  }
}
