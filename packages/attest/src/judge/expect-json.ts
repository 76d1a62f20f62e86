import { fromHex, type Json, type JsonObject, parseJson } from "@shelter/base";
import type { TcbStatus } from "../sgx/index.ts";
import type { PcrReference } from "../tpm/index.ts";
import { JudgeError } from "./error.ts";
import type { Expectations } from "./expectations.ts";
import { present } from "./present.ts";

const KEYS: ReadonlySet<string> = new Set([
  "reportData",
  "nonce",
  "userData",
  "mnonce",
  "measurements",
  "registers",
  "signers",
  "hostData",
  "pcrs",
  "secureBoot",
  "allowDebug",
  "allowMigration",
  "allowTcbStatuses",
]);

const TCB_STATUSES: readonly string[] = [
  "SWHardeningNeeded",
  "ConfigurationNeeded",
  "ConfigurationAndSWHardeningNeeded",
  "OutOfDate",
  "OutOfDateConfigurationNeeded",
];

function bad(message: string): JudgeError {
  return new JudgeError("EXPECTATIONS_MALFORMED", `expectations: ${message}`);
}

/**
 * Reads an expectations file: JSON with hex values, `{"reportData": "00…", "measurements": ["…"],
 * "pcrs": [{"4": "…"}]}`. An unknown key is refused, since it would silently not be compared.
 */
export function parseExpectations(text: string): Expectations {
  const json = parseJson(text, "expectations");
  if (typeof json !== "object" || json === null || Array.isArray(json)) throw bad("not an object");
  const object = json as JsonObject;
  for (const key of Object.keys(object)) if (!KEYS.has(key)) throw bad(`${JSON.stringify(key)} is not known`);
  if (object["reportData"] !== undefined && object["nonce"] !== undefined) {
    throw bad("reportData and nonce are two names of one thing");
  }
  return present({
    reportData: hex(object, "reportData") ?? hex(object, "nonce"),
    userData: hex(object, "userData"),
    mnonce: hex(object, "mnonce"),
    measurements: hexes(object["measurements"], "measurements"),
    registers: registers(object["registers"]),
    signers: hexes(object["signers"], "signers"),
    hostData: hex(object, "hostData"),
    pcrs: pcrs(object["pcrs"]),
    secureBoot: boolean(object, "secureBoot"),
    allowDebug: boolean(object, "allowDebug"),
    allowMigration: boolean(object, "allowMigration"),
    allowTcbStatuses: statuses(object["allowTcbStatuses"]),
  });
}

function bytes(value: Json | undefined, what: string): Uint8Array {
  if (typeof value !== "string" || !/^(?:[0-9a-fA-F]{2})*$/.test(value)) throw bad(`${what} is not hex`);
  return fromHex(value);
}

function hex(object: JsonObject, key: string): Uint8Array | undefined {
  return object[key] === undefined ? undefined : bytes(object[key], key);
}

function hexes(value: Json | undefined, what: string): Uint8Array[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw bad(`${what} is not a list`);
  return value.map((item: Json, i: number) => bytes(item, `${what}[${i}]`));
}

function boolean(object: JsonObject, key: string): boolean | undefined {
  const value = object[key];
  if (value !== undefined && typeof value !== "boolean") throw bad(`${key} is neither true nor false`);
  return value;
}

function entries(value: Json | undefined, what: string): [string, Json | undefined][] {
  if (typeof value !== "object" || value === null || Array.isArray(value))
    throw bad(`${what} is not an object`);
  const list = Object.entries(value as JsonObject);
  for (const [key] of list)
    if (!/^(?:[0-9]|[12][0-9]|3[01])$/.test(key)) throw bad(`${what}: ${key} is no register`);
  return list;
}

function registers(value: Json | undefined): Record<number, readonly Uint8Array[]> | undefined {
  if (value === undefined) return undefined;
  return Object.fromEntries(
    entries(value, "registers").map(([key, item]) => [
      key,
      typeof item === "string" ? [bytes(item, `registers.${key}`)] : (hexes(item, `registers.${key}`) ?? []),
    ]),
  );
}

function pcrs(value: Json | undefined): PcrReference[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw bad("pcrs is not a list of allowed states");
  return value.map((state: Json, i: number) => ({
    pcrs: Object.fromEntries(
      entries(state, `pcrs[${i}]`).map(([key, item]) => {
        bytes(item, `pcrs[${i}].${key}`);
        return [key, String(item).toLowerCase()];
      }),
    ),
  }));
}

function statuses(value: Json | undefined): TcbStatus[] | undefined {
  if (value === undefined) return undefined;
  if (!Array.isArray(value)) throw bad("allowTcbStatuses is not a list");
  for (const status of value) {
    if (typeof status !== "string" || !TCB_STATUSES.includes(status)) {
      throw bad(`allowTcbStatuses: ${JSON.stringify(status)} is none of ${TCB_STATUSES.join(", ")}`);
    }
  }
  return value as TcbStatus[];
}
