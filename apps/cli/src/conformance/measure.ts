import { CheckList, type RoleFiles, type Verdict } from "@shelter/attest";
import type { CorpusItem } from "./corpus.ts";

/** Judges vectors of predicted measurements. */
export function judgeVectorsItem(item: CorpusItem, _files: RoleFiles): Verdict {
  const checks = new CheckList();
  checks.add({
    name: "measurement-vectors",
    ok: false,
    failure: "incomplete",
    detail: `there is no prediction of ${item.tee} measurements`,
  });
  return checks.verdict(item.tee, {});
}
