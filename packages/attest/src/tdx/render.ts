import { type Field, field, group } from "../describe.ts";
import { type TdReport, tdAttributes } from "./td-report.ts";

/** The fields of a TD's report (Intel TDX DCAP Quoting Library API, A.3.2). */
export function renderTdReport(report: TdReport): readonly Field[] {
  const bits = tdAttributes(report.tdAttributes);
  return [
    field("TEE_TCB_SVN", report.teeTcbSvn),
    field("MRSEAM", report.mrSeam),
    field("MRSIGNERSEAM", report.mrSignerSeam),
    field("SEAMATTRIBUTES", report.seamAttributes),
    group("TDATTRIBUTES", [
      field("DEBUG", bits.debug),
      field("LASS", bits.lass),
      field("SEPT_VE_DISABLE", bits.septVeDisable),
      field("MIGRATABLE", bits.migratable),
      field("PKS", bits.pks),
      field("KL", bits.kl),
      field("TPA", bits.tpa),
      field("PERFMON", bits.perfmon),
    ]),
    field("XFAM", report.xfam),
    field("MRTD", report.mrTd),
    field("MRCONFIGID", report.mrConfigId),
    field("MROWNER", report.mrOwner),
    field("MROWNERCONFIG", report.mrOwnerConfig),
    ...report.rtmrs.map((rtmr, i) => field(`RTMR${i}`, rtmr)),
    field("REPORTDATA", report.reportData),
    ...(report.teeTcbSvn2 === undefined ? [] : [field("TEE_TCB_SVN_2", report.teeTcbSvn2)]),
    ...(report.mrServiceTd === undefined ? [] : [field("MRSERVICETD", report.mrServiceTd)]),
  ];
}
