import { describe, stateDirectory } from "@shelter/base";
import { ImageStore, type SealedImage, shortIdentity } from "@shelter/seal";
import { listInstances } from "@shelter/vm";
import { printable, printJson, size, styled, table } from "../terminal.ts";

/** An image as `images --json` shows it. */
function summary(image: SealedImage): object {
  return {
    identity: image.identity,
    names: image.names,
    shape: image.record.shape,
    encrypted: image.manifest.root.encryption !== undefined,
    size: total(image),
    source: image.record.source,
  };
}

function total(image: SealedImage): number {
  return Object.values(image.record.files).reduce((sum, f) => sum + (f?.size ?? 0), 0);
}

/** `shelter images`. */
export function images(options: { quiet?: boolean; json?: boolean }): void {
  const found = new ImageStore(stateDirectory()).images((identity, reason) => {
    process.stderr.write(
      `${styled("yellow", "damaged:", process.stderr)} ${identity}: ${printable(describe(reason))}\n`,
    );
  });
  if (options.json === true) {
    printJson(found.map(summary));
    return;
  }
  if (options.quiet === true) {
    for (const image of found) process.stdout.write(`${image.identity}\n`);
    return;
  }
  const rows = found.flatMap((image) =>
    (image.names.length > 0 ? image.names : ["<none>"]).map((name) => [
      name,
      shortIdentity(image.identity),
      image.record.shape,
      image.manifest.root.encryption === undefined ? "no" : "yes",
      size(total(image)),
    ]),
  );
  process.stdout.write(table(["NAME", "IDENTITY", "SHAPE", "ENCRYPTED", "SIZE"], rows));
}

/** `shelter tag`. */
export function tag(from: string, to: string, options: { json?: boolean }): void {
  const image = new ImageStore(stateDirectory()).tag(from, to);
  if (options.json === true) printJson(summary(image));
}

/** `shelter rmi`. */
export function rmi(names: readonly string[], options: { force?: boolean; json?: boolean }): void {
  const state = stateDirectory();
  const store = new ImageStore(state);
  const users = new Map(listInstances(state).map((i) => [i.config.image.identity, i.name]));
  const done: object[] = [];
  for (const name of names) {
    const removal = store.remove(name, {
      inUse: (identity) => users.get(identity),
      force: options.force ?? false,
    });
    done.push(removal);
    if (options.json === true) continue;
    for (const untagged of removal.untagged) process.stdout.write(`untagged ${untagged}\n`);
    if (removal.deleted !== undefined) process.stdout.write(`deleted ${removal.deleted}\n`);
  }
  if (options.json === true) printJson(done);
}
