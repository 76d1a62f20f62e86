import { CollateralSet } from "../collateral/index.ts";
import type { Verdict } from "../verdict.ts";
import { type DetectedFile, detect } from "./detect.ts";
import { JudgeError } from "./error.ts";
import type { Expectations } from "./expectations.ts";
import type { Platform, RoleFiles } from "./files.ts";
import { judgeRoles } from "./roles.ts";

/** A file with its name, and its role where the caller knows it. */
export interface NamedFile {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly role?: string;
}

/** One judgement over files whose roles are to be found out. */
export interface EvidenceRequest {
  /** Detected from the files when absent. */
  readonly platform?: Platform;
  /** The evidence, and whatever came along with it. */
  readonly files: readonly NamedFile[];
  /** Collateral of any platforms: what fits is chosen. */
  readonly collateral?: readonly NamedFile[] | CollateralSet;
  /** The one trust anchor to use instead of the built-in ones. */
  readonly root?: Uint8Array;
  readonly expect?: Expectations;
  readonly at: Date;
}

/** What evidence turned out to be. */
export interface SortedEvidence {
  readonly platform: Platform;
  readonly files: RoleFiles;
}

/** The file that is the evidence itself. */
const MAIN_ROLE: Readonly<Record<Platform, string>> = {
  snp: "report",
  tdx: "quote",
  sgx: "quote",
  csv: "report",
  tpm: "quote",
  "az-snp-vtpm": "evidence_json",
  "az-tdx-vtpm": "evidence_json",
  cca: "token",
  nitro: "document",
};

/** Finds platform and roles of evidence files. Two files of one role are refused: nobody could tell which was judged. */
export function sortEvidence(files: readonly NamedFile[], platform?: Platform): SortedEvidence {
  const roles: Record<string, Uint8Array> = {};
  const platforms = new Set<Platform>();
  for (const { name, bytes, role } of files) {
    let found: readonly DetectedFile[] = role === undefined ? detect(bytes, name) : [{ role, bytes }];
    if (found.length === 0 && platform !== undefined && roles[MAIN_ROLE[platform]] === undefined) {
      // Somebody says what it is: then the verifier finds what is wrong with it.
      found = [{ role: MAIN_ROLE[platform], bytes }];
    }
    if (found.length === 0) {
      throw new JudgeError("EVIDENCE_UNKNOWN", `${name}: no evidence this library knows`, {
        hint: "name its role, as in quote=FILE",
      });
    }
    for (const part of found) {
      if (roles[part.role] !== undefined) {
        throw new JudgeError("EVIDENCE_UNKNOWN", `${name}: a second ${part.role}`);
      }
      roles[part.role] = part.bytes;
      if (part.platform !== undefined) platforms.add(part.platform);
    }
  }
  return { platform: platform ?? decide(roles, platforms), files: forPlatform(roles, platform) };
}

function decide(roles: RoleFiles, platforms: ReadonlySet<Platform>): Platform {
  if (roles["hcl_report"] !== undefined)
    return roles["td_quote"] === undefined ? "az-snp-vtpm" : "az-tdx-vtpm";
  const [only, other] = platforms;
  if (only === undefined) {
    throw new JudgeError("EVIDENCE_UNKNOWN", "the files do not show their platform", {
      hint: "name it with --platform",
    });
  }
  if (other !== undefined) {
    throw new JudgeError("EVIDENCE_UNKNOWN", `the files are evidence of ${[...platforms].join(" and ")}`);
  }
  return only;
}

/** Azure calls the same files by other names. */
function forPlatform(roles: Readonly<Record<string, Uint8Array>>, platform: Platform | undefined): RoleFiles {
  const azure = roles["hcl_report"] !== undefined || platform?.startsWith("az-") === true;
  if (!azure) return roles;
  const { quote, signature, ...rest } = roles;
  return {
    ...(quote === undefined ? {} : { tpm_quote: quote }),
    ...(signature === undefined ? {} : { tpm_signature: signature }),
    ...rest,
  };
}

/** Judges evidence files of any platform, with the collateral that fits. */
export function judgeEvidence(request: EvidenceRequest): Verdict {
  const { platform, files } = sortEvidence(request.files, request.platform);
  const { collateral, at, root } = request;
  const set = collateral instanceof CollateralSet ? collateral : new CollateralSet(collateral ?? []);
  return judgeRoles({
    platform,
    // What came with the evidence goes before the cache.
    files: { ...chosen(set, platform, files, at), ...files, ...(root === undefined ? {} : { root }) },
    expect: request.expect ?? {},
    at,
  });
}

function chosen(set: CollateralSet, platform: Platform, files: RoleFiles, at: Date): RoleFiles {
  try {
    const { quote, report } = files;
    if (platform === "snp" && report !== undefined) return set.forSnp(report, at);
    if ((platform === "tdx" || platform === "sgx") && quote !== undefined) return set.forQuote(quote, at);
    if (platform === "az-tdx-vtpm" && files["td_quote"] !== undefined)
      return set.forQuote(files["td_quote"], at);
    if (platform === "az-snp-vtpm") return { ca: set.sole("ca", at), vek: undefined };
    if (platform === "csv") return { hsk_cek: set.sole("hsk_cek", at) };
    if (platform === "cca") return { cpak: set.sole("cpak", at) };
    return {};
  } catch {
    return {}; // evidence that cannot be read needs no collateral; the verifier says what is wrong with it
  }
}
