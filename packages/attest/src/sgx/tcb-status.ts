import { toHex } from "@shelter/base";
import type { TdReport } from "../tdx/td-report.ts";
import type { EnclaveReport } from "./enclave-report.ts";
import type { Pck } from "./pck.ts";
import type { QeIdentity } from "./qe-identity.ts";
import type { IsvLevel, PublishedTcbStatus, TcbInfo, TcbLevel, TdxModuleIdentity } from "./tcb-info.ts";

/** What Intel's verification library concludes about a platform's TCB. */
export type TcbStatus =
  | PublishedTcbStatus
  | "TDRelaunchAdvised"
  | "TDRelaunchAdvisedConfigurationNeeded"
  | "TcbNotSupported"
  | "TdxModuleMismatch";

/** A concluded status, and the parts that lead to it. */
export interface TcbConclusion {
  readonly status: TcbStatus;
  /** Status of the platform's own level. */
  readonly platform: PublishedTcbStatus | undefined;
  readonly date: number | undefined;
  /** Status of the TDX module; undefined for SGX and for modules older than identities. */
  readonly module: IsvLevel["status"] | "no matching level" | undefined;
  /** Undefined without an identity of the quoting enclave; the status then says nothing about it. */
  readonly qe: IsvLevel["status"] | "no matching level" | undefined;
  readonly advisories: readonly string[];
}

/** The identity that speaks about a TDX module's major version (TEE_TCB_SVN[1]). */
export function moduleIdentity(info: TcbInfo, version: number): TdxModuleIdentity | undefined {
  const id = `TDX_${toHex(Uint8Array.of(version))}`.toUpperCase();
  return info.tdxModuleIdentities?.find((i) => i.id === id);
}

function sgxAtLeast(pck: Pck, level: TcbLevel): boolean {
  return level.sgx.every((svn, i) => (pck.components[i] ?? 0) >= svn) && pck.pceSvn >= level.pceSvn;
}

function tdxAtLeast(teeTcbSvn: Uint8Array, level: TcbLevel): boolean {
  // With a module that has an identity of its own, the first two parts are judged there.
  const from = (teeTcbSvn[1] ?? 0) > 0 ? 2 : 0;
  return (level.tdx ?? []).every((svn, i) => i < from || (teeTcbSvn[i] ?? 0) >= svn);
}

function isvLevel(levels: readonly IsvLevel[], isvSvn: number): IsvLevel | undefined {
  return levels.find((level) => isvSvn >= level.isvSvn);
}

/** The worse of a platform's status and that of a module or quoting enclave under it. */
function converge(status: TcbStatus, part: IsvLevel["status"]): TcbStatus {
  if (part === "Revoked") return "Revoked";
  if (part === "OutOfDate") {
    if (status === "UpToDate" || status === "SWHardeningNeeded") return "OutOfDate";
    if (status === "ConfigurationNeeded" || status === "ConfigurationAndSWHardeningNeeded") {
      return "OutOfDateConfigurationNeeded";
    }
  }
  return status;
}

/**
 * Concludes the TCB status as Intel's quote verification library does
 * (SGX-TDX-DCAP-QuoteVerificationLibrary, TcbLevelCheck, TdxModuleCheck and TDRelaunchCheck).
 */
export function concludeTcb(
  info: TcbInfo,
  pck: Pck,
  qeIdentity: QeIdentity | undefined,
  qeReport: EnclaveReport,
  td: TdReport | undefined,
): TcbConclusion {
  const qeLevel = qeIdentity && isvLevel(qeIdentity.levels, qeReport.isvSvn);
  const sgxLevel = info.levels.find((level) => sgxAtLeast(pck, level));
  const level =
    td === undefined ? sgxLevel : info.levels.find((l) => sgxAtLeast(pck, l) && tdxAtLeast(td.teeTcbSvn, l));
  const version = td?.teeTcbSvn[1] ?? 0;
  const identity = version > 0 ? moduleIdentity(info, version) : undefined;
  const moduleLevel = identity && isvLevel(identity.levels, td?.teeTcbSvn[0] ?? 0);
  const conclusion = {
    platform: level?.status,
    date: level?.date,
    module: version === 0 ? undefined : (moduleLevel?.status ?? "no matching level"),
    qe: qeIdentity && (qeLevel?.status ?? "no matching level"),
    advisories: [
      ...new Set([
        ...(level?.advisories ?? []),
        ...(moduleLevel?.advisories ?? []),
        ...(qeLevel?.advisories ?? []),
      ]),
    ],
  } as const;
  const end = (status: TcbStatus): TcbConclusion => ({ ...conclusion, status });

  if (sgxLevel === undefined || level === undefined) return end("TcbNotSupported");
  let status: TcbStatus = level.status;
  if (td !== undefined) {
    if (version > 0) {
      if (identity === undefined) return end("TdxModuleMismatch");
      if (moduleLevel === undefined) return end("TcbNotSupported");
      status = converge(status, moduleLevel.status);
    }
    if (status === "Revoked") return end(status);
    const qeFine = qeIdentity === undefined || qeLevel?.status === "UpToDate";
    if (td.teeTcbSvn2 !== undefined && qeFine && moduleLevel?.status === "OutOfDate") {
      status = relaunch(info, td.teeTcbSvn2, sgxLevel.status, status);
    }
  }
  if (qeIdentity === undefined) return end(status);
  if (qeLevel === undefined) return end("TcbNotSupported");
  return end(converge(status, qeLevel.status));
}

/**
 * A TD launched under an old module that has been updated since (its TEE_TCB_SVN2 is current) only
 * needs to be launched again.
 */
function relaunch(info: TcbInfo, svn2: Uint8Array, sgx: TcbStatus, status: TcbStatus): TcbStatus {
  const sgxFine = sgx !== "OutOfDate" && sgx !== "OutOfDateConfigurationNeeded" && sgx !== "Revoked";
  if (!sgxFine || (status !== "OutOfDate" && status !== "OutOfDateConfigurationNeeded")) return status;
  const latest = info.levels[0]?.tdx ?? [];
  const version = svn2[1] ?? 0;
  let floor = latest[0] ?? 0;
  if (version > 0) {
    const identity = moduleIdentity(info, version);
    if (identity === undefined) return "TdxModuleMismatch";
    floor = identity.levels[0]?.isvSvn ?? 0;
  }
  if ((svn2[0] ?? 0) < floor || (svn2[2] ?? 0) < (latest[2] ?? 0)) return status;
  const configuration = sgx.includes("Configuration") || status.includes("Configuration");
  return configuration ? "TDRelaunchAdvisedConfigurationNeeded" : "TDRelaunchAdvised";
}
