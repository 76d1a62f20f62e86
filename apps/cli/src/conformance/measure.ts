import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { basename } from "node:path";
import { CheckList, type RoleFiles, type Verdict } from "@shelter/attest";
import {
  describe,
  fromHex,
  type Json,
  type JsonObject,
  parseJson,
  ShelterError,
  sameBytes,
  toHex,
} from "@shelter/base";
import {
  CPU_SIGNATURES,
  kernelHashes,
  mrTd,
  type OvmfImage,
  type PageOrder,
  readOvmf,
  readTdxFirmware,
  type SnpLaunch,
  sevLaunchDigest,
  snpFirmwareDigest,
  snpLaunchDigest,
  type Vmm,
} from "@shelter/seal";
import { CorpusError, type CorpusItem } from "./corpus.ts";

/** Judges vectors of predicted measurements: every one must come out as written, and what must fail must fail. */
export function judgeVectorsItem(item: CorpusItem, files: RoleFiles): Verdict {
  const vectors = files["vectors"];
  if (vectors === undefined) throw new CorpusError("CORPUS_MALFORMED", `${item.id}: no vectors`);
  const json = parseJson(new TextDecoder().decode(vectors), `${item.id} vectors`) as JsonObject;
  const list = Array.isArray(json["vectors"]) ? (json["vectors"] as Json[]) : [];
  const named = new Map(
    Object.entries(item.files).flatMap(([role, { file }]) => {
      const bytes = files[role];
      return bytes === undefined ? [] : [[basename(file), bytes] as const];
    }),
  );
  const checks = new CheckList();
  for (const vector of list as JsonObject[]) {
    if (item.tee === "tdx") judgeMrtd(vector, named, checks);
    else judgeLaunch(vector, named, checks);
  }
  return checks.verdict(item.tee, { count: list.length });
}

type Named = ReadonlyMap<string, Uint8Array>;

const EXTERNAL = /^EXTERNAL:(\/[\w./-]+) of /;
const MAX_FIRMWARE = 64 * 1024 * 1024;

/** Firmware a Debian package holds; undefined when it is not installed in that version, and the vector is passed over. */
function external(vector: JsonObject): Uint8Array | undefined {
  const path = EXTERNAL.exec(String(vector["ovmf"] ?? vector["firmware"]))?.[1];
  const sha256 = vector["ovmf_sha256"] ?? vector["sha256"];
  if (path === undefined || !existsSync(path) || statSync(path).size > MAX_FIRMWARE) return undefined;
  const bytes = new Uint8Array(readFileSync(path));
  return createHash("sha256").update(bytes).digest("hex") === sha256 ? bytes : undefined;
}

function isExternal(vector: JsonObject): boolean {
  return String(vector["ovmf"] ?? vector["firmware"]).startsWith("EXTERNAL:");
}

function file(named: Named, name: Json | undefined): Uint8Array {
  const bytes = named.get(String(name));
  if (bytes === undefined) throw new CorpusError("CORPUS_FILE", `no file ${String(name)} for a vector`);
  return bytes;
}

/** `null` is not given, `{"hex": …}` the bytes, `{"file": …}` a file of the item. */
function content(value: Json | undefined, named: Named): Uint8Array | undefined {
  if (value === null || value === undefined) return undefined;
  if (typeof value === "string") return file(named, value);
  const { hex, file: name } = value as JsonObject;
  return typeof hex === "string" ? fromHex(hex) : file(named, name);
}

function judgeLaunch(vector: JsonObject, named: Named, checks: CheckList): void {
  const name = `launch-digest ${String(vector["name"])}`;
  const outside = isExternal(vector) ? external(vector) : undefined;
  if (isExternal(vector) && outside === undefined) return;
  const firmware = readOvmf(outside ?? file(named, vector["ovmf"]));
  const ovmfHash = vector["expected_ovmf_hash"];
  if (typeof ovmfHash === "string") {
    const claimed = toHex(snpFirmwareDigest(firmware));
    checks.add({
      name,
      ok: claimed === ovmfHash.toLowerCase(),
      failure: "untrusted",
      claimed,
      expected: ovmfHash,
    });
    return;
  }
  const expected = vector["expected_launch_digest"];
  let digest: string | undefined;
  let problem: string | undefined;
  try {
    const launch = readLaunch(vector, firmware, named);
    const mode = vector["mode"];
    digest = toHex(
      mode === "sev" || mode === "sev-es" ? sevLaunchDigest(launch, mode) : snpLaunchDigest(launch),
    );
  } catch (error) {
    if (!(error instanceof ShelterError) || error.kind === "bug") throw error;
    problem = describe(error);
  }
  const mustFail = expected === null && typeof vector["expected_error"] === "string";
  checks.add({
    name,
    ok: mustFail ? digest === undefined : typeof expected === "string" && digest === expected.toLowerCase(),
    failure: "untrusted",
    claimed: digest ?? problem ?? "nothing",
    expected: mustFail ? `a refusal: ${String(vector["expected_error"])}` : String(expected),
  });
}

function readLaunch(vector: JsonObject, firmware: OvmfImage, named: Named): SnpLaunch {
  const kernel = content(vector["kernel"], named);
  const append = vector["append"];
  const override = vector["ovmf_hash_override"];
  return {
    firmware,
    ...(typeof override === "string" ? { firmwareDigest: fromHex(override) } : {}),
    ...(kernel === undefined
      ? {}
      : {
          kernel: kernelHashes(
            kernel,
            content(vector["initrd"], named),
            typeof append === "string" ? append : "",
          ),
        }),
    vcpus: Number(vector["vcpus"]),
    vmm: String(vector["vmm"]) as Vmm,
    cpuSignature: typeof vector["vcpu_sig"] === "number" ? vector["vcpu_sig"] : 0,
    guestFeatures: BigInt(Number(vector["guest_features"] ?? 1)),
  };
}

const ORDERS: readonly (readonly [string, PageOrder])[] = [
  ["expected_mrtd", "page-by-page"],
  ["expected_mrtd_page_add_then_extend_per_page", "page-by-page"],
  ["expected_mrtd_all_page_adds_then_extends_per_section", "section-by-section"],
];

function judgeMrtd(vector: JsonObject, named: Named, checks: CheckList): void {
  const outside = isExternal(vector) ? external(vector) : undefined;
  if (isExternal(vector) && outside === undefined) return;
  const firmware = readTdxFirmware(outside ?? file(named, vector["firmware"]));
  for (const [key, order] of ORDERS) {
    const expected = vector[key];
    if (typeof expected !== "string") continue;
    const value = mrTd(firmware, order);
    checks.add({
      name: `mrtd ${String(vector["name"])} ${order}`,
      ok: sameBytes(value, fromHex(expected)),
      failure: "untrusted",
      claimed: toHex(value),
      expected,
    });
  }
}

const SEV_HASH_TABLE = "7255371f-3a3b-4b04-927b-1da6efa8d454";
const SEV_ES_RESET = "00f771de-1a7e-4fcb-890e-68c77e2fb44e";

/** The launch digest a guest must have had, out of an item's `launch_inputs`: firmware by its digest and sections. */
export function reproduceLaunch(launchInputs: Uint8Array): string {
  const inputs = parseJson(new TextDecoder().decode(launchInputs), "launch inputs") as JsonObject;
  const number = (key: string): Uint8Array => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(Number(inputs[key]));
    return bytes;
  };
  const list = inputs["ovmf_sections"];
  if (!Array.isArray(list)) throw new CorpusError("CORPUS_MALFORMED", "launch inputs: no ovmf_sections");
  const sections = (list as JsonObject[]).map((section) => ({
    gpa: Number(section["gpa"]),
    size: Number(section["size"]),
    type: Number(section["section_type"]),
  }));
  const cmdline = createHash("sha256")
    .update(`${String(inputs["base_cmdline"])}\0`)
    .digest();
  return toHex(
    snpLaunchDigest({
      firmware: {
        data: new Uint8Array(),
        gpa: 0,
        table: new Map([
          [SEV_HASH_TABLE, number("sev_hashes_table_gpa")],
          [SEV_ES_RESET, number("sev_es_reset_eip")],
        ]),
        sections,
      },
      firmwareDigest: fromHex(String(inputs["ovmf_hash"])),
      kernel: {
        kernel: fromHex(String(inputs["kernel_hash"])),
        initrd: fromHex(String(inputs["initrd_hash"])),
        cmdline,
      },
      vcpus: Number(inputs["vcpus"]),
      vmm: "qemu",
      cpuSignature: CPU_SIGNATURES[String(inputs["vcpu_type"])] ?? 0,
      guestFeatures: BigInt(Number(inputs["guest_features"])),
    }),
  );
}
