import type { ReferenceValues } from "./measurement.ts";

/** A message to Trustee's reference value provider service, with the extractor `sample`. */
export type RvpsMessage = {
  readonly version: "0.1.0";
  readonly type: "sample";
  /** Base64 of a JSON object: by name, every value that is right. */
  readonly payload: string;
};

/**
 * Reference values under the names Trustee's default policy asks for; it asks for none of CSV, so `csv_measurement`
 * is ours. Trustee compares each name by itself: it cannot tell that two values belong to one shape.
 */
export function rvpsMessage({ values }: ReferenceValues): RvpsMessage {
  const named = new Map<string, Set<string>>();
  const add = (name: string, value: string): void => {
    named.set(name, (named.get(name) ?? new Set()).add(value));
  };
  for (const value of values) {
    switch (value.platform) {
      case "vtpm":
        for (const [pcr, digest] of Object.entries(value.pcrs)) add(`tpm_pcr${pcr}`, digest);
        break;
      case "snp":
        add("snp_launch_measurement", value.measurement);
        break;
      case "csv":
        add("csv_measurement", value.measurement);
        break;
      case "tdx":
        add("mr_td", value.mrtd);
        for (const [rtmr, digest] of Object.entries(value.rtmrs)) add(`rtmr_${rtmr}`, digest);
        break;
      default:
        value satisfies never;
    }
  }
  const payload = JSON.stringify(Object.fromEntries([...named].map(([name, set]) => [name, [...set]])));
  return { version: "0.1.0", type: "sample", payload: Buffer.from(payload, "utf8").toString("base64") };
}
