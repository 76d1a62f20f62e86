import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { composeManifest, type ImageFacts, withRoot } from "../src/compose.ts";
import { decodeManifest, encodeManifest, type Manifest, parseShelterYaml } from "../src/index.ts";

const MiB = 2 ** 20;
const FACTS: ImageFacts = {
  config: {
    entrypoint: ["/entry"],
    cmd: ["serve"],
    env: ["PATH=/bin", "A=1"],
    workingDir: "/srv",
    user: "app",
    exposedPorts: [
      { port: 6379, protocol: "tcp" },
      { port: 53, protocol: "udp" },
    ],
  },
  passwd: "app:x:1000:1000::/home/app:/bin/sh\n",
  group: "",
  shell: true,
};
const ROOT: Manifest["root"] = {
  shape: "disk",
  squashfs: { size: 4096, digest: `sha256:${"1".repeat(64)}` as Manifest["root"]["squashfs"]["digest"] },
  verity: { rootHash: "2".repeat(64), salt: "3".repeat(64), dataBlocks: 1, hashSize: 8192 },
  check: "whole",
};
test("a root is checked whole before attesting, unless it is large or shelter.yaml says otherwise", () => {
  const check = (yaml: string, size: number): string | undefined => {
    const config = parseShelterYaml(yaml, "shelter.yaml");
    return withRoot(composeManifest(FACTS, config), { ...ROOT, squashfs: { ...ROOT.squashfs, size } }, config)
      .root.check;
  };
  equal(check("", 256 * 2 ** 20), "whole");
  equal(check("", 256 * 2 ** 20 + 4096), "lazy");
  equal(check("root: {check: whole}", 2 ** 40), "whole");
  equal(check("root: {check: lazy}", 4096), "lazy");
  throws(() => check("root: {check: maybe}", 4096), { message: /shelter.yaml:1:15: expected whole or lazy/ });
});

const compose = (yaml: string, facts = FACTS): Omit<Manifest, "root"> =>
  composeManifest(facts, parseShelterYaml(yaml, "shelter.yaml"));

test("an image's own configuration is the process, with safe grants", () => {
  deepEqual(compose(""), {
    version: 1,
    process: {
      entrypoint: ["/entry"],
      cmd: ["serve"],
      env: ["PATH=/bin", "A=1", "HOME=/home/app"],
      cwd: "/srv",
      user: { uid: 1000, gid: 1000, groups: [] },
    },
    allow: { args: [], env: [], exec: [], stdin: true, tty: true, mounts: [] },
    secrets: [],
    ports: [6379],
    network: { outbound: false },
    resources: { memory: 256 * MiB, cpus: 1, writable: 64 * MiB },
    capabilities: [
      "CAP_CHOWN",
      "CAP_DAC_OVERRIDE",
      "CAP_FOWNER",
      "CAP_FSETID",
      "CAP_KILL",
      "CAP_NET_BIND_SERVICE",
      "CAP_SETGID",
      "CAP_SETUID",
      "CAP_SYS_CHROOT",
    ],
  });
});

test("an entrypoint of one's own drops the image's cmd, as with Docker; a cmd alone keeps the entrypoint", () => {
  const own = compose("process: {entrypoint: [/mine]}").process;
  deepEqual([own.entrypoint, own.cmd], [["/mine"], []]);
  const cmd = compose("process: {cmd: [other]}").process;
  deepEqual([cmd.entrypoint, cmd.cmd], [["/entry"], ["other"]]);
});

test("variables are replaced in place, added behind, and removed by null", () => {
  deepEqual(compose("process: {env: {A: null, PATH: /usr/bin, B: x=y}}").process.env, [
    "PATH=/usr/bin",
    "HOME=/home/app",
    "B=x=y",
  ]);
});

test("ports in shelter.yaml stand in place of the exposed ones", () => {
  deepEqual(compose("ports: []").ports, []);
  deepEqual(compose("ports: [90, 80]").ports, [80, 90]);
});

test("capabilities are dropped, then added", () => {
  deepEqual(compose("capabilities: {drop: [ALL], add: [CHOWN]}").capabilities, ["CAP_CHOWN"]);
});

test("a secret's file belongs to the process's user and is read by nobody else", () => {
  deepEqual(compose("secrets: [{from: kbs:///a/b/c, file: /run/s}]").secrets, [
    { uri: "kbs:///a/b/c", file: "/run/s", mode: 0o400, uid: 1000, gid: 1000 },
  ]);
});

test("an image that names no program runs its shell; without one it is refused, unless arguments are granted", () => {
  const bare: ImageFacts = { ...FACTS, config: { ...FACTS.config, entrypoint: [], cmd: [] } };
  deepEqual(compose("", bare).process.cmd, ["/bin/sh"]);
  throws(() => compose("", { ...bare, shell: false }), { code: "MANIFEST_MALFORMED" });
  deepEqual(compose('allow: {args: "*"}', { ...bare, shell: false }).process.cmd, []);
});

test("a root in memory gets memory for itself unless shelter.yaml says how much there is", () => {
  const initrd: Manifest["root"] = { shape: "initrd", squashfs: { ...ROOT.squashfs, size: 100 * MiB } };
  const yaml = parseShelterYaml("", "");
  equal(withRoot(compose(""), initrd, yaml).resources.memory, (256 + 320) * MiB);
  equal(withRoot(compose(""), ROOT, yaml).resources.memory, 256 * MiB);
  const fixed = parseShelterYaml("resources: {memory: 300MiB}", "");
  equal(withRoot(composeManifest(FACTS, fixed), initrd, fixed).resources.memory, 300 * MiB);
});

test("a root is read whole before anything is proved where that is quick, unless shelter.yaml says otherwise", () => {
  const of = (size: number, yaml: string): string | undefined => {
    const { check, ...root } = ROOT;
    const config = parseShelterYaml(yaml, "");
    equal(check, "whole");
    return withRoot(composeManifest(FACTS, config), { ...root, squashfs: { ...root.squashfs, size } }, config)
      .root.check;
  };
  equal(of(256 * MiB, ""), "whole");
  equal(of(256 * MiB + 4096, ""), "lazy");
  equal(of(256 * MiB + 4096, "root: {check: whole}"), "whole");
  equal(of(4096, "root: {check: lazy}"), "lazy");
});

test("a manifest's bytes decode to what they were made from", () => {
  const yaml = `process: {cwd: /größe}
allow: {args: [[a, "*"]], env: [X], exec: "*", mounts: [{target: /d, readOnly: false}]}
secrets: [{from: kbs:///a/b/c, env: T}, {from: kbs:///a/b/d, file: /s}]
`;
  const manifest: Manifest = {
    ...compose(yaml),
    root: { ...ROOT, encryption: { key: "kbs:///a/b/e", cipher: "aes-xts-plain64", sectorSize: 4096 } },
  };
  deepEqual(decodeManifest(encodeManifest(manifest), "manifest.json"), manifest);
});

test("a manifest with a key more, a key less, another type or another spelling is refused", () => {
  const text = Buffer.from(encodeManifest({ ...compose(""), root: ROOT })).toString();
  for (const other of [
    text.replace('"ports"', '"porst"'),
    text.replace('"tty":true', '"tty":1'),
    text.replace('"stdin":true,', ""),
    text.replace('"version":1', '"version":2'),
    text.replace("{", '{"zebra":1,'),
    text.replace(":", ": "),
    `${text}\n`,
    text.replace('"shape":"disk"', '"shape":"initrd"'),
    text.replace("222", "22G"),
    text.slice(0, -1),
  ]) {
    throws(() => decodeManifest(Buffer.from(other), "manifest.json"), /manifest\.json/, other);
  }
});

test("a manifest past its bound is refused before anything is built of it", () => {
  const env = Array.from({ length: 1000 }, (_, i) => `V${i}=${"x".repeat(300)}`);
  const part = compose("", { ...FACTS, config: { ...FACTS.config, env } });
  throws(() => encodeManifest({ ...part, root: ROOT }), { code: "MANIFEST_MALFORMED", kind: "usage" });
});
