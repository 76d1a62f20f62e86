import { ByteReader, toHex } from "@shelter/base";
import type { LogEvent } from "./log.ts";

/** UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile, section 10.2.6). */
export interface UefiVariable {
  readonly guid: string;
  readonly name: string;
  readonly data: Uint8Array;
  /** Whether the lengths fill the event exactly; old versions of shim wrote longer events. */
  readonly exact: boolean;
}

const MAX_NAME = 1024;

/** Reads the variable of an event; undefined when the data has another form. */
export function readVariable(event: LogEvent): UefiVariable | undefined {
  if (event.data.length < 32) return undefined;
  const reader = new ByteReader(event.data, "UEFI_VARIABLE_DATA");
  const guid = readGuid(reader.take(16));
  const nameLength = Number(reader.u64le());
  const dataLength = Number(reader.u64le());
  if (nameLength > MAX_NAME || nameLength * 2 + dataLength > reader.remaining) return undefined;
  const name = Buffer.from(reader.take(nameLength * 2))
    .toString("utf16le")
    .replace(/\0+$/, "");
  const data = reader.take(dataLength);
  return { guid, name, data, exact: reader.remaining === 0 };
}

/** A GUID in its usual mixed-endian text form. */
export function readGuid(bytes: Uint8Array): string {
  const b = Buffer.from(bytes);
  const hex = (part: Uint8Array): string => toHex(part);
  return [
    hex(Buffer.from(b.subarray(0, 4)).reverse()),
    hex(Buffer.from(b.subarray(4, 6)).reverse()),
    hex(Buffer.from(b.subarray(6, 8)).reverse()),
    hex(b.subarray(8, 10)),
    hex(b.subarray(10, 16)),
  ].join("-");
}
