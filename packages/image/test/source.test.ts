import assert from "node:assert/strict";
import { appendFileSync, mkdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import { flatten, ImageError, type ImageErrorCode, openSource } from "../src/index.ts";
import {
  dir,
  dockerArchive,
  file,
  flattenLayers,
  list,
  scratch,
  sha,
  symlink,
  tar,
  writeIndex,
  writeOci,
  written,
} from "./make.ts";

const LAYER = tar(
  dir("etc"),
  file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
  file("big", "x".repeat(300_000)),
);

async function refuses(
  promise: Promise<unknown>,
  code: ImageErrorCode,
  text: string | RegExp,
): Promise<ImageError> {
  let found: ImageError | undefined;
  await assert.rejects(promise, (error: unknown) => {
    assert.ok(error instanceof ImageError, String(error));
    assert.equal(error.code, code, error.message);
    assert.ok(
      typeof text === "string" ? error.message.includes(text) : text.test(error.message),
      error.message,
    );
    found = error;
    return true;
  });
  return found as ImageError;
}

test("reads the whole configuration of an image", async (t) => {
  const path = join(scratch(t), "image");
  writeOci(path, [LAYER], {
    config: {
      Entrypoint: ["/bin/app"],
      Cmd: ["--port", "80"],
      Env: ["PATH=/bin", "A=1", "A=2", "ALONE", "EMPTY="],
      WorkingDir: "srv",
      User: "app:staff",
      ExposedPorts: { "80/tcp": {}, "53/udp": {}, "9000-9001": {} },
      Volumes: { "/data": {} },
      Labels: { a: "b" },
      StopSignal: "SIGINT",
      Healthcheck: { Test: ["NONE"] },
    },
  });
  const source = await openSource(`oci:${path}`);
  assert.deepEqual(source.config, {
    entrypoint: ["/bin/app"],
    cmd: ["--port", "80"],
    env: ["PATH=/bin", "A=2", "EMPTY="],
    workingDir: "/srv",
    user: "app:staff",
    exposedPorts: [
      { port: 80, protocol: "tcp" },
      { port: 53, protocol: "udp" },
      { port: 9000, protocol: "tcp" },
      { port: 9001, protocol: "tcp" },
    ],
    volumes: ["/data"],
    labels: new Map([["a", "b"]]),
    stopSignal: "SIGINT",
  });
  assert.deepEqual(source.layers, [`sha256:${sha(LAYER)}`]);
  assert.match(source.configDigest ?? "", /^sha256:[0-9a-f]{64}$/);
});

const BAD_CONFIGS: [config: object, text: string][] = [
  [{ Cmd: "sh" }, 'Cmd: expected an array, have "sh"'],
  [{ Cmd: [1] }, "Cmd[0]: expected a string, have 1"],
  [{ Env: ["=x"] }, "Env[0]: variable without a name"],
  [{ User: "a\0b" }, "User: expected a string without NUL"],
  [{ ExposedPorts: { "0/tcp": {} } }, '"0/tcp": expected a port such as 80/tcp'],
  [{ ExposedPorts: { "1-65535": {} } }, "more than 1024 exposed ports"],
  [{ Labels: ["a"] }, 'Labels: expected an object, have ["a"]'],
];
for (const [config, text] of BAD_CONFIGS) {
  test(`refuses the configuration ${JSON.stringify(config)}`, async (t) => {
    const path = join(scratch(t), "image");
    writeOci(path, [LAYER], { config });
    await assert.rejects(openSource(`oci:${path}`), (error: Error) => error.message.includes(text));
  });
}

test("chooses among tags of a layout, and lists them when it cannot", async (t) => {
  const path = join(scratch(t), "image");
  const one = writeOci(path, [LAYER], { tag: "one" });
  const two = writeOci(path, [tar(file("two", "2"))], { tag: "two" });
  writeIndex(path, [one, two]);
  assert.deepEqual((await openSource(`oci:${path}:one`)).layers, [`sha256:${sha(LAYER)}`]);
  const many = await refuses(openSource(`oci:${path}`), "SOURCE_AMBIGUOUS", "holds 2 tags");
  assert.match(many.hint ?? "", /Name one, as in oci:.*:one; it has one, two/);
  const none = await refuses(openSource(`oci:${path}:three`), "SOURCE_NOT_FOUND", "has no tag three");
  assert.match(none.hint ?? "", /it has one, two/);
});

test("chooses linux/amd64 of an index, passing over attestations, and refuses when it is absent", async (t) => {
  const path = join(scratch(t), "image");
  const base = writeOci(path, [LAYER]);
  const arm = {
    ...writeOci(path, [tar(file("arm", "1"))]),
    platform: { os: "linux", architecture: "arm64" },
  };
  const amd = { ...base, platform: { os: "linux", architecture: "amd64" } };
  const newer = { ...arm, platform: { os: "linux", architecture: "amd64", variant: "v3" } };
  const proof = { ...arm, annotations: { "vnd.docker.reference.type": "attestation-manifest" } };
  const nest = (manifests: object[]): object => {
    const index = JSON.stringify({ schemaVersion: 2, manifests });
    writeFileSync(join(path, "blobs/sha256", sha(index)), index);
    return {
      mediaType: "application/vnd.oci.image.index.v1+json",
      digest: `sha256:${sha(index)}`,
      size: index.length,
    };
  };
  writeIndex(path, [nest([arm, newer, amd, proof])]);
  assert.deepEqual((await openSource(`oci:${path}`)).layers, [`sha256:${sha(LAYER)}`]);
  writeIndex(path, [nest([arm, newer])]);
  await refuses(
    openSource(`oci:${path}`),
    "PLATFORM_ABSENT",
    "holds no linux/amd64 image, only linux/arm64, linux/amd64/v3",
  );
  writeOci(path, [LAYER], { platform: { os: "linux", architecture: "arm64" } });
  await refuses(
    openSource(`oci:${path}`),
    "PLATFORM_ABSENT",
    "the image is for linux/arm64, expected linux/amd64",
  );
});

test("refuses foreign, encrypted and unknown layers by their media type", async (t) => {
  for (const layerType of [
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.v1.tar+gzip+encrypted",
    "text/plain",
  ]) {
    const path = join(scratch(t), "image");
    writeOci(path, [LAYER], { layerType });
    await refuses(openSource(`oci:${path}`), "LAYER_REFUSED", `is ${layerType}`);
  }
});

test("a digest that does not match fails writing, and names layer, expected and found", async (t) => {
  const other = tar(file("other", "1"));
  for (const packing of ["none", "gzip", "zstd"] as const) {
    const tree = await flattenLayers(t, [LAYER, LAYER], {
      packing,
      diffIds: [`sha256:${sha(LAYER)}`, `sha256:${sha(other)}`],
    });
    const error = await refuses(written(tree), "DIGEST_MISMATCH", /^layer 2 of 2 \(sha256:/);
    assert.ok(
      error.message.includes(`content digest is sha256:${sha(LAYER)}, expected sha256:${sha(other)}`),
    );
  }
});

test("a blob with one altered byte is refused before the tree is known, or when it is written", async (t) => {
  for (const packing of ["none", "gzip", "zstd"] as const) {
    const path = join(scratch(t), "image");
    const blob = packing === "none" ? LAYER : packing === "gzip" ? gzipSync(LAYER) : zstdCompressSync(LAYER);
    writeOci(path, [LAYER], { packing });
    const altered = Buffer.from(blob);
    altered[packing === "none" ? LAYER.length - 2000 : 4] = 0x7e; // file data, or gzip's time and zstd's header
    writeFileSync(join(path, "blobs/sha256", sha(blob)), altered);
    const source = await openSource(`oci:${path}`);
    await assert.rejects(
      flatten(source).then((tree) => written(tree)),
      (error: unknown) =>
        error instanceof ImageError && ["DIGEST_MISMATCH", "COMPRESSION_BROKEN"].includes(error.code),
      packing,
    );
  }
});

test("a blob of another size, a missing blob and a configuration not of its digest are refused", async (t) => {
  const path = join(scratch(t), "image");
  writeOci(path, [LAYER]);
  const blob = join(path, "blobs/sha256", sha(LAYER));
  appendFileSync(blob, "x");
  await refuses(
    openSource(`oci:${path}`),
    "DIGEST_MISMATCH",
    `has ${LAYER.length + 1} bytes, expected ${LAYER.length}`,
  );
  rmSync(blob);
  await refuses(openSource(`oci:${path}`), "IMAGE_MALFORMED", `has no blob sha256:${sha(LAYER)}`);
});

test("a file that changes between the two readings is noticed", async (t) => {
  const path = join(scratch(t), "image");
  writeOci(path, [LAYER]);
  const blob = join(path, "blobs/sha256", sha(LAYER));
  const tree = await flatten(await openSource(`oci:${path}`));
  utimesSync(blob, 1, 1);
  await refuses(written(tree), "SOURCE_CHANGED", `${blob} changed while it was being read`);
  await refuses(tree.readFile("/big", 1e6), "SOURCE_CHANGED", "changed");
});

test("reads gzip of several members and zstd of several frames, and refuses what follows them", async (t) => {
  const half = LAYER.length >> 1;
  const gzip = [gzipSync(LAYER.subarray(0, half)), gzipSync(LAYER.subarray(half))];
  const skippable = Buffer.from([0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
  const frames: Buffer[] = [];
  for (let at = 0; at < LAYER.length; at += 10_000)
    frames.push(zstdCompressSync(LAYER.subarray(at, at + 10_000)));
  const zstd = [skippable, ...frames, skippable];
  for (const parts of [gzip, zstd]) {
    const tree = await flattenLayers(t, [LAYER], { blobs: [Buffer.concat(parts)] });
    assert.equal(list(await written(tree)).get("big")?.data.length, 300_000);
    for (const tail of ["garbage", "\0\0\0\0\0\0\0\0"]) {
      const blobs = [Buffer.concat([...parts, Buffer.from(tail)])];
      await refuses(flattenLayers(t, [LAYER], { blobs }), "COMPRESSION_BROKEN", /is broken (gzip|zstd)/);
    }
    const whole = Buffer.concat(parts);
    const cut = [whole.subarray(0, whole.length - (parts === zstd ? 20 : 5))];
    await refuses(flattenLayers(t, [LAYER], { blobs: cut }), "COMPRESSION_BROKEN", /is broken (gzip|zstd)/);
  }
});

test("reads docker save archives, the old form and the one with an OCI layout in it", async (t) => {
  const at = scratch(t);
  const second = tar(file("x", "1"));
  writeFileSync(join(at, "old.tar"), dockerArchive([LAYER, second], ["demo:1"], { config: { User: "1" } }));
  const old = await openSource(`docker-archive:${join(at, "old.tar")}`);
  assert.equal(old.kind, "docker-archive");
  assert.equal(old.config.user, "1");
  assert.deepEqual(old.layers, [`sha256:${sha(LAYER)}`, `sha256:${sha(second)}`]);
  const tree = await flatten(old);
  assert.match((await tree.readFile("/etc/passwd", 4096))?.toString() ?? "", /^root:/);
  assert.equal(list(await written(tree)).get("x")?.data, "1");

  const config = JSON.stringify({
    os: "linux",
    architecture: "amd64",
    rootfs: { type: "layers", diff_ids: [`sha256:${sha(LAYER)}`] },
  });
  const archive = (layer: Buffer, name = sha(layer)): Buffer =>
    tar(
      file("oci-layout", '{"imageLayoutVersion":"1.0.0"}'),
      file("index.json", "{}"),
      dir("blobs/sha256"),
      file(`blobs/sha256/${sha(config)}`, config),
      file(`blobs/sha256/${name}`, "", { data: layer }),
      file(
        "manifest.json",
        JSON.stringify([
          { Config: `blobs/sha256/${sha(config)}`, RepoTags: null, Layers: [`blobs/sha256/${name}`] },
        ]),
      ),
    );
  writeFileSync(join(at, "new.tar"), archive(LAYER));
  assert.ok(
    (await written(await flatten(await openSource(`docker-archive:${join(at, "new.tar")}`)))).length > 0,
  );
  writeFileSync(join(at, "packed.tar"), archive(gzipSync(LAYER)));
  assert.ok(
    (await written(await flatten(await openSource(`docker-archive:${join(at, "packed.tar")}`)))).length > 0,
  );
  writeFileSync(join(at, "wrong.tar"), archive(gzipSync(LAYER), sha("something else")));
  await refuses(
    flatten(await openSource(`docker-archive:${join(at, "wrong.tar")}`)),
    "DIGEST_MISMATCH",
    "blob digest",
  );
});

test("a layer that docker save stored as a symlink to an earlier one is found", async (t) => {
  const path = join(scratch(t), "image.tar");
  const config = JSON.stringify({
    os: "linux",
    architecture: "amd64",
    rootfs: { type: "layers", diff_ids: [`sha256:${sha(LAYER)}`, `sha256:${sha(LAYER)}`] },
  });
  const manifest = [{ Config: `${sha(config)}.json`, RepoTags: [], Layers: ["a/layer.tar", "b/layer.tar"] }];
  writeFileSync(
    path,
    tar(
      file(`${sha(config)}.json`, config),
      file("a/layer.tar", "", { data: LAYER }),
      symlink("b/layer.tar", "../a/layer.tar"),
      file("manifest.json", JSON.stringify(manifest)),
    ),
  );
  assert.equal((await flatten(await openSource(`docker-archive:${path}`))).lookup("/big")?.size, 300_000);
});

test("an archive with several images wants a name, in any spelling Docker takes", async (t) => {
  const path = join(scratch(t), "image.tar");
  const config = JSON.stringify({
    os: "linux",
    architecture: "amd64",
    rootfs: { type: "layers", diff_ids: [] },
  });
  const image = (tag: string): object => ({ Config: `${sha(config)}.json`, RepoTags: [tag], Layers: [] });
  const manifest = [image("demo:1"), image("docker.io/library/other:latest")];
  writeFileSync(
    path,
    tar(file(`${sha(config)}.json`, config), file("manifest.json", JSON.stringify(manifest))),
  );
  const error = await refuses(openSource(`docker-archive:${path}`), "SOURCE_AMBIGUOUS", "holds 2 images");
  assert.match(error.hint ?? "", /docker-archive:.*:REPO:TAG; it has demo:1, docker.io/);
  await openSource(`docker-archive:${path}:demo:1`);
  await openSource(`docker-archive:${path}:other`);
  await refuses(openSource(`docker-archive:${path}:demo:2`), "SOURCE_NOT_FOUND", "holds no image demo:2");
});

test("reads an OCI archive, and says so when the form is another", async (t) => {
  const at = scratch(t);
  writeFileSync(join(at, "docker.tar"), dockerArchive([LAYER], ["a:1"]));
  await refuses(
    openSource(`oci-archive:${join(at, "docker.tar")}`),
    "SOURCE_UNSUPPORTED",
    "has no oci-layout",
  );
  const bare = await refuses(
    openSource(join(at, "docker.tar")),
    "SOURCE_UNSUPPORTED",
    "a bare path names a directory",
  );
  assert.match(bare.hint ?? "", /docker-archive:/);
  writeFileSync(join(at, "docker.tar.gz"), gzipSync(dockerArchive([LAYER], ["a:1"])));
  const packed = await refuses(
    openSource(`docker-archive:${join(at, "docker.tar.gz")}`),
    "SOURCE_UNSUPPORTED",
    "is compressed as a whole (gzip)",
  );
  assert.match(packed.hint ?? "", /gunzip/);
  writeOci(join(at, "layout"), [LAYER]);
  const layout = await refuses(
    openSource(join(at, "layout")),
    "SOURCE_UNSUPPORTED",
    "is an OCI image layout",
  );
  assert.match(layout.hint ?? "", /Say oci:/);
  const missing = await refuses(
    openSource("alpine:3.20"),
    "SOURCE_NOT_FOUND",
    "no such directory: alpine:3.20",
  );
  assert.match(missing.hint ?? "", /registries are not read/);
  await refuses(openSource(`oci:${join(at, "nothing")}:x`), "SOURCE_NOT_FOUND", "no such directory");
  mkdirSync(join(at, "empty"));
  await refuses(openSource(`oci:${join(at, "empty")}`), "SOURCE_UNSUPPORTED", "no OCI image layout");
});
