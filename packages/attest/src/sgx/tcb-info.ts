import { JsonView, malformedCollateral, parseSignedJson } from "./signed-json.ts";

/** Status of a TCB level of a platform (Intel PCS API, TCB info). */
export const TCB_STATUSES = [
  "UpToDate",
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
  "Revoked",
] as const;

/** Status of a TCB level as Intel publishes it. */
export type PublishedTcbStatus = (typeof TCB_STATUSES)[number];

/** Status of a TCB level of a TDX module or quoting enclave. */
export const MODULE_STATUSES = ["UpToDate", "OutOfDate", "Revoked"] as const;

/** Status of a TDX module or quoting enclave. */
export type ModuleStatus = (typeof MODULE_STATUSES)[number];

/** One TCB level of a platform. */
export interface TcbLevel {
  readonly sgx: readonly number[];
  /** TDX components; absent in SGX TCB info. */
  readonly tdx: readonly number[] | undefined;
  readonly pceSvn: number;
  readonly status: PublishedTcbStatus;
  /** Milliseconds. */
  readonly date: number;
  readonly advisories: readonly string[];
}

/** One level of a TDX module's or quoting enclave's security version. */
export interface IsvLevel {
  readonly isvSvn: number;
  readonly status: ModuleStatus;
  readonly date: number;
  readonly advisories: readonly string[];
}

/** What a TDX module must be. */
export interface TdxModule {
  readonly mrSigner: Uint8Array;
  readonly attributes: Uint8Array;
}

/** A TDX module of one major version and its levels, highest first. */
export interface TdxModuleIdentity extends TdxModule {
  /** `TDX_01`, upper case. */
  readonly id: string;
  readonly levels: readonly IsvLevel[];
}

/** TCB info of one FMSPC (Intel PCS API, versions 2 and 3). */
export interface TcbInfo {
  readonly id: "SGX" | "TDX";
  readonly version: 2 | 3;
  readonly issueDate: number;
  readonly nextUpdate: number;
  readonly fmspc: Uint8Array;
  readonly pceId: Uint8Array;
  readonly tcbEvaluationDataNumber: number;
  readonly tdxModule: TdxModule | undefined;
  readonly tdxModuleIdentities: readonly TdxModuleIdentity[] | undefined;
  /** Highest first, in the order Intel's library walks them, whatever the order in the document. */
  readonly levels: readonly TcbLevel[];
  readonly signedBytes: Uint8Array;
  readonly signature: Uint8Array;
}

const MAX_LEVELS = 256;
const MAX_IDENTITIES = 32;
const MAX_ADVISORIES = 256;
const COMPONENTS = 16;
const MAX_SVN16 = 0xffff;
const MAX_NUMBER = 0xffffffff;

/** Reads TCB info as the service delivers it, `{"tcbInfo": …, "signature": …}`. */
export function parseTcbInfo(bytes: Uint8Array): TcbInfo {
  const signed = parseSignedJson(bytes, "tcbInfo", "tcb info");
  const info = new JsonView(signed.body, "tcb info");
  const version = info.get("version").uint(MAX_NUMBER);
  if (version !== 2 && version !== 3)
    throw malformedCollateral(`tcb info: version ${version} is neither 2 nor 3`);
  const id = version === 2 ? "SGX" : info.get("id").oneOf(["SGX", "TDX"] as const);
  if (info.get("tcbType").uint(MAX_NUMBER) !== 0) throw malformedCollateral("tcb info: tcbType is not 0");
  const identities = info.has("tdxModuleIdentities");
  if (id === "SGX" && (info.has("tdxModule") || identities)) {
    throw malformedCollateral("tcb info: a tdx module in tcb info for SGX");
  }
  return {
    id,
    version,
    issueDate: info.get("issueDate").date(),
    nextUpdate: info.get("nextUpdate").date(),
    fmspc: info.get("fmspc").hex(6),
    pceId: info.get("pceId").hex(2),
    tcbEvaluationDataNumber: info.get("tcbEvaluationDataNumber").uint(MAX_NUMBER),
    tdxModule: id === "TDX" ? readModule(info.get("tdxModule")) : undefined,
    tdxModuleIdentities: identities ? readIdentities(info.get("tdxModuleIdentities")) : undefined,
    levels: readLevels(info.get("tcbLevels"), version, id),
    signedBytes: signed.bytes,
    signature: signed.signature,
  };
}

function readModule(module: JsonView): TdxModule {
  return { mrSigner: module.get("mrsigner").hex(48), attributes: module.get("attributes").hex(8) };
}

function readIdentities(list: JsonView): TdxModuleIdentity[] {
  const identities = list.list(MAX_IDENTITIES).map((entry) => ({
    ...readModule(entry),
    id: entry.get("id").text().toUpperCase(),
    levels: readIsvLevels(entry.get("tcbLevels")),
  }));
  if (identities.length === 0) throw malformedCollateral("tcb info: no tdx module identities");
  if (new Set(identities.map((i) => i.id)).size !== identities.length) {
    throw malformedCollateral("tcb info: two tdx module identities of one id");
  }
  return identities;
}

/** Reads levels of a security version, highest first. */
export function readIsvLevels(list: JsonView): IsvLevel[] {
  const levels = list.list(MAX_LEVELS).map((entry) => ({
    isvSvn: entry.get("tcb").get("isvsvn").uint(MAX_SVN16),
    status: entry.get("tcbStatus").oneOf(MODULE_STATUSES),
    date: entry.get("tcbDate").date(),
    advisories: readAdvisories(entry),
  }));
  if (levels.length === 0) throw malformedCollateral(`${list.path}: no levels`);
  return levels.sort((a, b) => b.isvSvn - a.isvSvn || b.date - a.date);
}

function readAdvisories(entry: JsonView): string[] {
  return entry.has("advisoryIDs")
    ? entry
        .get("advisoryIDs")
        .list(MAX_ADVISORIES)
        .map((a) => a.text())
    : [];
}

function readComponents(tcb: JsonView, version: 2 | 3, which: "sgx" | "tdx"): number[] {
  if (version === 2) {
    return Array.from({ length: COMPONENTS }, (_, i) =>
      tcb.get(`sgxtcbcomp${String(i + 1).padStart(2, "0")}svn`).uint(255),
    );
  }
  const list = tcb.get(`${which}tcbcomponents`);
  const components = list.list(COMPONENTS).map((c) => c.get("svn").uint(255));
  if (components.length !== COMPONENTS)
    throw malformedCollateral(`${list.path}: expected ${COMPONENTS} components`);
  return components;
}

function readLevels(list: JsonView, version: 2 | 3, id: "SGX" | "TDX"): TcbLevel[] {
  const levels = list.list(MAX_LEVELS).map((entry): TcbLevel => {
    const tcb = entry.get("tcb");
    return {
      sgx: readComponents(tcb, version, "sgx"),
      tdx: id === "TDX" ? readComponents(tcb, version, "tdx") : undefined,
      pceSvn: tcb.get("pcesvn").uint(MAX_SVN16),
      status: entry.get("tcbStatus").oneOf(TCB_STATUSES),
      date: entry.get("tcbDate").date(),
      advisories: readAdvisories(entry),
    };
  });
  if (levels.length === 0) throw malformedCollateral("tcb info: no tcb levels");
  levels.sort(compareLevels);
  for (const [i, level] of levels.entries()) {
    const next = levels[i + 1];
    if (next !== undefined && compareLevels(level, next) === 0) {
      throw malformedCollateral("tcb info: one tcb level twice");
    }
  }
  return levels;
}

/** Order of Intel's library: SGX components, PCESVN, TDX components, each from the highest down. */
function compareLevels(a: TcbLevel, b: TcbLevel): number {
  return compareNumbers(a.sgx, b.sgx) || b.pceSvn - a.pceSvn || compareNumbers(a.tdx ?? [], b.tdx ?? []);
}

function compareNumbers(a: readonly number[], b: readonly number[]): number {
  for (const [i, n] of a.entries()) {
    const m = b[i] ?? 0;
    if (n !== m) return m - n;
  }
  return 0;
}
