import assert from "node:assert/strict";
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import {
  createInstance,
  findInstance,
  generateName,
  INSTANCE_NAME,
  listInstances,
  removeInstance,
  runtimeDirectory,
} from "../src/index.ts";
import { World } from "./world.ts";

const world = new World();
after(() => world.close());

test("names are unique, and free again after removal", () => {
  const first = world.instance({}, "web");
  assert.throws(() => world.instance({}, "web"), {
    code: "INSTANCE_NAME_TAKEN",
    kind: "usage",
    message: "the name web is taken",
  });
  removeInstance(first, { force: false });
  removeInstance(world.instance({}, "web"), { force: false });
  assert.deepEqual(listInstances(world.state), []);
});

for (const name of ["", "-x", "a/b", "../x", "a b", "x".repeat(64), "ü"]) {
  test(`refuses the name ${JSON.stringify(name.slice(0, 10))}`, () => {
    assert.throws(() => world.instance({}, name), { code: "INSTANCE_NAME" });
  });
}

test("a name whose instance never came to be can be taken", () => {
  writeFileSync(join(world.state, "names", "orphan"), "f".repeat(64));
  removeInstance(world.instance({}, "orphan"), { force: false });
});

test("generated names have the form of Docker's, and never one that is taken", () => {
  const taken = new Set<string>();
  for (let i = 0; i < 6000; i++) {
    const name = generateName(taken);
    assert.match(name, /^[a-z]+_[a-z]+\d*$/);
    assert.match(name, INSTANCE_NAME);
    assert.ok(!taken.has(name));
    taken.add(name);
  }
});

test("an instance is found by name, id and beginning of the id; an ambiguous one is an error that lists them", () => {
  const all = Array.from({ length: 20 }, (_, i) => world.instance({}, `n${i}`));
  const one = all[0];
  assert.ok(one !== undefined);
  assert.equal(findInstance(world.state, one.id).name, "n0");
  assert.equal(findInstance(world.state, one.id.slice(0, 16)).name, "n0");
  assert.equal(findInstance(world.state, "n7").name, "n7");
  // Twenty ids over sixteen digits: one digit is shared by at least two.
  const shared = [..."0123456789abcdef"].find((d) => all.filter((i) => i.id.startsWith(d)).length > 1) ?? "";
  assert.throws(() => findInstance(world.state, shared), {
    code: "INSTANCE_AMBIGUOUS",
    hint: /give more of it: .*\(n\d+\)/,
  });
  for (const unknown of ["", "nothing", "N0", "g", "../n0", "0".repeat(65)]) {
    assert.throws(() => findInstance(world.state, unknown), { code: "INSTANCE_UNKNOWN" }, unknown);
  }
  assert.deepEqual(
    listInstances(world.state)
      .map((i) => i.name)
      .sort(),
    all.map((i) => i.name).sort(),
  );
  for (const i of all) removeInstance(i, { force: false });
});

test("a name that looks like another's id wins over the beginning of the id", () => {
  const a = world.instance();
  const b = world.instance({}, a.id.slice(0, 8));
  assert.equal(findInstance(world.state, a.id.slice(0, 8)).id, b.id);
  removeInstance(a, { force: false });
  removeInstance(b, { force: false });
});

test("what an instance keeps is private and survives being read again", () => {
  const made = world.instance({ env: ["SECRET=1"], args: ["a b", ""], tty: true });
  assert.deepEqual(findInstance(world.state, made.name), made);
  assert.equal(JSON.parse(readFileSync(join(made.directory, "instance.json"), "utf8")).version, 1);
  removeInstance(made, { force: false });
  assert.ok(!existsSync(made.directory));
});

test("a damaged record is an error that names the file, a half-made directory is nothing", () => {
  mkdirSync(join(world.state, "instances", "e".repeat(64)));
  assert.deepEqual(listInstances(world.state), []);
  const file = join(world.state, "instances", "e".repeat(64), "instance.json");
  writeFileSync(file, '{"version":2}');
  assert.throws(() => listInstances(world.state), {
    code: "INSTANCE_STATE",
    message: `${file} is not an instance`,
  });
  rmSync(join(world.state, "instances", "e".repeat(64)), { recursive: true });
});

test("a runtime directory that others can reach, or that is a link, is refused", () => {
  const own = join(world.directory, "xdg");
  mkdirSync(join(own, "shelter"), { recursive: true, mode: 0o700 });
  assert.equal(runtimeDirectory({ XDG_RUNTIME_DIR: own }), join(own, "shelter"));
  chmodSync(join(own, "shelter"), 0o755);
  assert.throws(() => runtimeDirectory({ XDG_RUNTIME_DIR: own }), {
    code: "RUNTIME_DIRECTORY",
    kind: "refused",
  });
  rmSync(join(own, "shelter"), { recursive: true });
  symlinkSync(world.directory, join(own, "shelter"));
  assert.throws(() => runtimeDirectory({ XDG_RUNTIME_DIR: own }), { code: "RUNTIME_DIRECTORY" });
});

test("a runtime directory too long for sockets is refused with the way out", () => {
  world.set("XDG_RUNTIME_DIR", join(world.directory, "x".repeat(100)));
  assert.throws(
    () => removeInstance(createInstance({ state: world.state, config: world.config() }), { force: false }),
    {
      code: "RUNTIME_DIRECTORY",
      hint: /shorter directory/,
    },
  );
  world.set("XDG_RUNTIME_DIR", join(world.directory, "run"));
});
