import {
  CborFields,
  type CborMap,
  type CborValue,
  type CoseSign1,
  decodeCbor,
  isMap,
  parseCoseSign1,
} from "../cbor/index.ts";
import { NitroError } from "./error.ts";

/** An attestation document of the Nitro Security Module, parsed once; nothing in it is believed yet. */
export interface NitroDocument {
  readonly cose: CoseSign1;
  readonly moduleId: string;
  /** Name of the hash behind the PCRs. */
  readonly digest: string;
  /** Milliseconds since 1970, as the module saw it. */
  readonly timestamp: number;
  readonly pcrs: ReadonlyMap<number, Uint8Array>;
  /** Certificate of the signing key, DER. */
  readonly certificate: Uint8Array;
  /** Issuers, the root first, DER. */
  readonly cabundle: readonly Uint8Array[];
  /** What the enclave put in; undefined where it put nothing. */
  readonly publicKey: Uint8Array | undefined;
  readonly userData: Uint8Array | undefined;
  readonly nonce: Uint8Array | undefined;
}

// The bounds of AWS's specification (aws-nitro-enclaves-nsm-api, docs/attestation_process.md, "Syntactical
// validation").
const MAX_DOCUMENT = 32 * 1024; // the module's answers are at most 16 KiB
const MAX_CERTIFICATE = 1024;
const MAX_CABUNDLE = 16;
const MAX_PUBLIC_KEY = 1024;
const MAX_USER_DATA = 1024; // 512 in the specification, 1 KiB in the newer module's limits
const MAX_NONCE = 1024;
const MAX_PCR = 31;
const MAX_TIMESTAMP = 8.64e15; // milliseconds; past this there is no date (ECMA-262, "Time Values")
const PCR_SIZES: Readonly<Record<string, number>> = { SHA256: 32, SHA384: 48, SHA512: 64 };

const fail = (why: string): NitroError => new NitroError(`nitro document: ${why}`);

/** Parses a document: COSE_Sign1 around a CBOR map. */
export function parseNitroDocument(bytes: Uint8Array): NitroDocument {
  if (bytes.byteLength > MAX_DOCUMENT) throw fail(`${bytes.byteLength} bytes, at most ${MAX_DOCUMENT}`);
  const cose = parseCoseSign1(bytes, "nitro document");
  const payload = decodeCbor(cose.payload, "nitro document payload");
  if (!isMap(payload)) throw fail("the payload is no map");
  const fields = new CborFields(payload, fail);
  const moduleId = fields.text("module_id", "module_id", 256);
  if (moduleId === "") throw fail("module_id is empty");
  const digest = fields.text("digest", "digest", 16);
  const size = PCR_SIZES[digest];
  if (size === undefined || digest !== "SHA384")
    throw fail(`digest is ${JSON.stringify(digest)}, expected SHA384`);
  const timestamp = fields.integer("timestamp", "timestamp", MAX_TIMESTAMP);
  if (timestamp === 0) throw fail("timestamp is 0");
  return {
    cose,
    moduleId,
    digest,
    timestamp,
    pcrs: readPcrs(fields.get("pcrs"), size),
    certificate: fields.bytes("certificate", "certificate", { minimum: 1, maximum: MAX_CERTIFICATE }),
    cabundle: readBundle(fields.array("cabundle", "cabundle")),
    publicKey: optional(payload, fields, "public_key", { minimum: 1, maximum: MAX_PUBLIC_KEY }),
    userData: optional(payload, fields, "user_data", { maximum: MAX_USER_DATA }),
    nonce: optional(payload, fields, "nonce", { maximum: MAX_NONCE }),
  };
}

function optional(
  map: CborMap,
  fields: CborFields,
  key: string,
  form: { readonly minimum?: number; readonly maximum: number },
): Uint8Array | undefined {
  const value = map.get(key);
  return value === undefined || value === null ? undefined : fields.bytes(key, key, form);
}

function readPcrs(value: CborValue, size: number): ReadonlyMap<number, Uint8Array> {
  if (!isMap(value) || value.size === 0) throw fail("pcrs is no map with registers");
  const pcrs = new Map<number, Uint8Array>();
  for (const [index, register] of value) {
    if (typeof index !== "number" || index < 0 || index > MAX_PCR) throw fail(`there is no pcr ${index}`);
    if (!(register instanceof Uint8Array) || register.byteLength !== size) {
      throw fail(`pcr ${index} has no ${size} bytes`);
    }
    pcrs.set(index, register);
  }
  for (const index of [0, 1, 2]) if (!pcrs.has(index)) throw fail(`pcr ${index} is missing`);
  return pcrs;
}

function readBundle(list: readonly CborValue[]): readonly Uint8Array[] {
  if (list.length === 0 || list.length > MAX_CABUNDLE) {
    throw fail(`cabundle has ${list.length} certificates, expected 1 to ${MAX_CABUNDLE}`);
  }
  return list.map((der, i) => {
    if (!(der instanceof Uint8Array) || der.byteLength === 0 || der.byteLength > MAX_CERTIFICATE) {
      throw fail(`cabundle ${i} is no certificate of 1 to ${MAX_CERTIFICATE} bytes`);
    }
    return der;
  });
}
