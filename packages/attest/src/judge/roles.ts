import { describe, fromHex, ShelterError } from "@shelter/base";
import { verifyCca } from "../cca/index.ts";
import { parseCsvEvidence, verifyCsv } from "../csv/index.ts";
import { checkContents, parseEventLog } from "../eventlog/index.ts";
import { verifyNitro } from "../nitro/index.ts";
import { verifySgx } from "../sgx/index.ts";
import { parseSnpEvidence, verifySnp } from "../snp/index.ts";
import { verifyTdx } from "../tdx/index.ts";
import { CheckList, type Verdict } from "../verdict.ts";
import { judgeAzureFiles } from "./azure.ts";
import type { Expectations } from "./expectations.ts";
import { dcapFiles, need, type RoleFiles, type RoleRequest } from "./files.ts";
import { present } from "./present.ts";
import { judgeTpmFiles } from "./tpm.ts";

/**
 * Judges evidence whose files have known roles. What the verifiers raise about the form of a file is
 * a verdict here: `malformed`, never an exception; only our own mistakes and wrong use throw.
 */
export function judgeRoles(request: RoleRequest): Verdict {
  try {
    return judge(request);
  } catch (error) {
    if (!(error instanceof ShelterError) || error.kind === "bug" || error.kind === "usage") throw error;
    const checks = new CheckList();
    const failure = error.kind === "malformed" ? "malformed" : "refused";
    checks.add({ name: "evidence-form", ok: false, failure, detail: describe(error) });
    return checks.verdict(request.platform, {});
  }
}

function judge(request: RoleRequest): Verdict {
  switch (request.platform) {
    case "snp":
      return judgeSnp(request);
    case "tdx":
      return withLogContents(judgeTdx(request), request.files);
    case "sgx":
      return judgeSgx(request);
    case "csv":
      return withLogContents(judgeCsv(request), request.files);
    case "tpm":
      return judgeTpmFiles(request);
    case "az-snp-vtpm":
    case "az-tdx-vtpm":
      return judgeAzureFiles(request);
    case "cca":
      return judgeCca(request);
    case "nitro":
      return judgeNitro(request);
    default:
      return request.platform satisfies never;
  }
}

/** The verdict, and whether a binary event log beside the evidence shows the data that was measured. */
function withLogContents(verdict: Verdict, files: RoleFiles): Verdict {
  const log = files["ccel"] ?? files["event_log"];
  const json = log?.find((b) => b > 0x20) === 0x5b;
  if (log === undefined || json || verdict.outcome === "malformed") return verdict;
  const checks = new CheckList();
  checks.adopt(verdict);
  checkContents(parseEventLog(log), checks);
  return checks.verdict(verdict.platform, verdict.claims);
}

function judgeSnp({ files, at, expect }: RoleRequest): Verdict {
  const { vek, ca, root, evidence_json: json } = files;
  const parsed = json === undefined ? undefined : parseSnpEvidence(json);
  const crls = Object.entries(files).flatMap(([role, file]) =>
    /(?:^|_)crl$/.test(role) && file ? [file] : [],
  );
  return verifySnp(
    present({
      report: parsed?.report ?? need(files, "report"),
      vek,
      ca,
      certTable: parsed?.certTable ?? files["cert_table"],
      root,
      crls,
      at,
      expect: present({
        reportData: expect.reportData,
        hostData: expect.hostData,
        measurements: expect.measurements,
        idKeyDigests: expect.signers,
        allowDebug: expect.allowDebug,
        allowMigration: expect.allowMigration,
      }),
    }),
  );
}

function judgeTdx({ files, at, expect }: RoleRequest): Verdict {
  const registers = expect.registers;
  return verifyTdx(
    present({
      quote: need(files, "quote"),
      collateral: dcapFiles(files),
      root: files["root"],
      eventLog: files["ccel"] ?? files["event_log"],
      at,
      expect: present({
        reportData: expect.reportData,
        mrTds: expect.measurements,
        rtmrs: registers && [registers[0], registers[1], registers[2], registers[3]],
        mrConfigId: expect.hostData,
        allowDebug: expect.allowDebug,
        allowMigratable: expect.allowMigration,
        allowTcbStatuses: expect.allowTcbStatuses,
      }),
    }),
  );
}

function judgeSgx({ files, at, expect }: RoleRequest): Verdict {
  return verifySgx(
    present({
      quote: need(files, "quote"),
      collateral: dcapFiles(files),
      root: files["root"],
      at,
      expect: present({
        reportData: expect.reportData,
        mrEnclaves: expect.measurements,
        mrSigners: expect.signers,
        allowDebug: expect.allowDebug,
        allowTcbStatuses: expect.allowTcbStatuses,
      }),
    }),
  );
}

function judgeCsv({ files, expect }: RoleRequest): Verdict {
  const json = files["evidence_json"];
  if (json !== undefined) parseCsvEvidence(json); // its form counts, also where a raw report is beside it
  return verifyCsv(
    present({
      evidence: json ?? need(files, "report"),
      wrapper: json === undefined ? expect.csvWrapper : undefined,
      hskCek: files["hsk_cek"],
      root: files["root"],
      eventLog: files["ccel"] ?? files["event_log"],
      expect: present({
        reportData: expect.reportData,
        mnonce: expect.mnonce,
        measures: expect.measurements,
        rtmrs: soleRegisters(expect.registers),
        allowDebug: expect.allowDebug,
      }),
    }),
  );
}

/** The first allowed value of each register, for verifiers that take one. */
function soleRegisters(registers: Expectations["registers"]): Record<number, Uint8Array> | undefined {
  if (registers === undefined) return undefined;
  const entries = Object.entries(registers).flatMap(([i, [value]]) =>
    value === undefined ? [] : [[i, value]],
  );
  return Object.fromEntries(entries) as Record<number, Uint8Array>;
}

function judgeCca({ files, expect }: RoleRequest): Verdict {
  return verifyCca(
    present({
      token: need(files, "token"),
      cpak: files["cpak"] ?? files["ta_store"] ?? files["root"],
      expect: present({
        challenge: expect.reportData,
        initialMeasurements: expect.measurements,
        extensibleMeasurements: soleRegisters(expect.registers),
        allowDebug: expect.allowDebug,
      }),
    }),
  );
}

function judgeNitro({ files, at, expect }: RoleRequest): Verdict {
  const [reference] = expect.pcrs ?? [];
  const pcrs =
    reference === undefined
      ? undefined
      : Object.fromEntries(Object.entries(reference.pcrs).map(([pcr, value]) => [pcr, [fromHex(value)]]));
  return verifyNitro(
    present({
      document: need(files, "document"),
      root: files["root"],
      at,
      expect: present({
        nonce: expect.reportData,
        userData: expect.userData,
        pcrs,
        allowDebug: expect.allowDebug,
      }),
    }),
  );
}
