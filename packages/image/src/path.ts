import { ImageError } from "./errors.ts";
import { MAX_COMPONENT_BYTES, MAX_DEPTH, MAX_PATH_BYTES, MAX_SYMLINKS } from "./limits.ts";
import { nameBytes, type RawName, showName } from "./name.ts";
import type { Inode, Name } from "./node.ts";

/**
 * The components of a name in an archive. `..` is refused wherever it stands; a leading `/` means the root of
 * the image, as it does to Docker and containerd (ko and others write names so); empty and `.` say nothing.
 */
export function splitName(name: RawName, where: string): RawName[] {
  if (name === "") throw new ImageError("ENTRY_REFUSED", `${where}: entry without a name`);
  if (name.length > MAX_PATH_BYTES) {
    throw new ImageError("LIMIT_EXCEEDED", `${where}: name ${showName(name)} has ${name.length} bytes`);
  }
  const parts: RawName[] = [];
  for (const part of name.split("/")) {
    if (part === "" || part === ".") continue;
    if (part === "..") {
      throw new ImageError("ENTRY_REFUSED", `${where}: name ${showName(name)} has a .. component`);
    }
    if (part.length > MAX_COMPONENT_BYTES) {
      throw new ImageError(
        "LIMIT_EXCEEDED",
        `${where}: name ${showName(name)} has a component of ${part.length} bytes, at most ${MAX_COMPONENT_BYTES}`,
      );
    }
    // a copy of its own: a slice would keep the whole name in memory with it
    parts.push(part.length < 13 ? part : nameBytes(part).toString("latin1"));
  }
  if (parts.length > MAX_DEPTH) {
    throw new ImageError("LIMIT_EXCEEDED", `${where}: name ${showName(name)} is deeper than ${MAX_DEPTH}`);
  }
  return parts;
}

/** Why a path could not be walked. */
export type WalkFailure = "missing" | "not a directory" | "too many symlinks";

/**
 * Walks to a directory from the root, symlinks resolved inside the root (`..` in a target stops there), as
 * containerd's RootPath does. `missing` is asked for a directory that is not there; undefined ends the walk.
 */
export function walk(
  root: Inode,
  parts: readonly RawName[],
  step: (directory: Inode, part: RawName) => Name | undefined,
): Inode | WalkFailure {
  const stack: Inode[] = [root];
  const todo = [...parts].reverse();
  let followed = 0;
  for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
    if (part === "" || part === ".") continue;
    if (part === "..") {
      if (stack.length > 1) stack.pop();
      continue;
    }
    const at = stack.at(-1) ?? root;
    const name = step(at, part);
    if (name === undefined) return "missing";
    const { inode } = name;
    if (inode.type === "directory") {
      stack.push(inode);
    } else if (inode.type === "symlink") {
      if (++followed > MAX_SYMLINKS) return "too many symlinks";
      if (inode.target.startsWith("/")) stack.length = 1;
      const target = inode.target.split("/");
      for (let i = target.length - 1; i >= 0; i--) todo.push(target[i] ?? "");
    } else {
      return "not a directory";
    }
  }
  return stack.at(-1) ?? root;
}

/** What is at a path, symlinks resolved inside the root, the last one too; undefined where nothing is. */
export function find(root: Inode, path: RawName): Inode | undefined {
  const todo = path.split("/").reverse();
  const stack: Inode[] = [root];
  let followed = 0;
  let last: Inode = root;
  for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
    if (part === "" || part === ".") continue;
    if (last.type !== "directory") return undefined;
    if (part === "..") {
      if (stack.length > 1) stack.pop();
      last = stack.at(-1) ?? root;
      continue;
    }
    const inode = last.children?.get(part)?.inode;
    if (inode === undefined) return undefined;
    if (inode.type === "symlink") {
      if (++followed > MAX_SYMLINKS) return undefined;
      if (inode.target.startsWith("/")) stack.length = 1;
      last = stack.at(-1) ?? root;
      const target = inode.target.split("/");
      for (let i = target.length - 1; i >= 0; i--) todo.push(target[i] ?? "");
      continue;
    }
    if (inode.type === "directory") stack.push(inode);
    last = inode;
  }
  return last;
}
