import {
  CborFields,
  type CborMap,
  CborTag,
  type CborValue,
  type CoseSign1,
  decodeCbor,
  isMap,
  parseCoseSign1,
  showCbor,
} from "../cbor/index.ts";
import { CcaError } from "./error.ts";
import { REALM_PROFILE_2024 } from "./profile.ts";

/** One measured component of the platform. */
export interface CcaSwComponent {
  readonly type: string | undefined;
  readonly measurement: Uint8Array;
  readonly version: string | undefined;
  readonly signerId: Uint8Array;
  readonly hashAlg: string | undefined;
}

/** Claims of the platform token (RMM specification A7.2.3.2; draft-ffm-rats-cca-token). */
export interface CcaPlatform {
  readonly cose: CoseSign1;
  readonly profile: string;
  readonly challenge: Uint8Array;
  readonly implementationId: Uint8Array;
  readonly instanceId: Uint8Array;
  readonly config: Uint8Array;
  readonly lifecycle: number;
  readonly swComponents: readonly CcaSwComponent[];
  readonly verificationService: string | undefined;
  readonly hashAlg: string;
}

/** Claims of the realm token (RMM specification A7.2.3.1). */
export interface CcaRealm {
  readonly cose: CoseSign1;
  /** Absent in tokens of the first profile. */
  readonly profile: string | undefined;
  readonly challenge: Uint8Array;
  readonly personalizationValue: Uint8Array;
  readonly initialMeasurement: Uint8Array;
  readonly extensibleMeasurements: readonly Uint8Array[];
  readonly hashAlg: string;
  /** The realm attestation key as it stands in the claim. */
  readonly publicKey: Uint8Array;
  readonly publicKeyHashAlg: string;
  /** Profile of 2024: who shares the realm's memory encryption key, and the platform the realm is on. */
  readonly mecPolicy: string | undefined;
  readonly instanceId: Uint8Array | undefined;
}

/** A CCA attestation token: a platform token and a realm token, parsed once; nothing in it is believed yet. */
export interface CcaToken {
  /** The EAT collection of the first profile, or the conceptual message wrapper after it. */
  readonly form: "collection" | "cmw";
  readonly platform: CcaPlatform;
  readonly realm: CcaRealm;
}

const TAG_COLLECTION = 399;
const TAG_CMW = 907;
const PLATFORM_TOKEN = 44234;
const REALM_TOKEN = 44241;
/** CoAP content format `application/eat+cwt`, which the wrapper names for both tokens. */
const EAT_CWT = 263;
const MAX_TOKEN = 64 * 1024; // real ones stay under 8 KiB
const MAX_COMPONENTS = 64;
const DIGEST_SIZES = [32, 48, 64];

const fail = (why: string): CcaError => new CcaError("CCA_TOKEN_MALFORMED", `cca token: ${why}`);

/** Parses a token in either layout. */
export function parseCcaToken(bytes: Uint8Array): CcaToken {
  if (bytes.byteLength > MAX_TOKEN) throw fail(`${bytes.byteLength} bytes, at most ${MAX_TOKEN}`);
  const item = decodeCbor(bytes, "cca token");
  if (
    !(item instanceof CborTag) ||
    (item.tag !== TAG_COLLECTION && item.tag !== TAG_CMW) ||
    !isMap(item.value)
  ) {
    throw fail(`is ${showCbor(item)}, expected a map under tag ${TAG_COLLECTION} or ${TAG_CMW}`);
  }
  const form = item.tag === TAG_COLLECTION ? "collection" : "cmw";
  const parts: CborMap = item.value;
  for (const key of parts.keys()) {
    const isType = form === "cmw" && key === "__cmwc_t";
    if (key !== PLATFORM_TOKEN && key !== REALM_TOKEN && !isType) throw fail(`holds ${JSON.stringify(key)}`);
  }
  const platform = unwrap(parts.get(PLATFORM_TOKEN), form, "platform token");
  const realm = unwrap(parts.get(REALM_TOKEN), form, "realm token");
  return { form, platform: parsePlatform(platform), realm: parseRealm(realm) };
}

function unwrap(value: CborValue, form: CcaToken["form"], what: string): Uint8Array {
  let inner = value;
  if (form === "cmw") {
    if (!Array.isArray(value) || value.length !== 2 || value[0] !== EAT_CWT) {
      throw fail(`the ${what} is ${showCbor(value)}, expected [${EAT_CWT}, bytes]`);
    }
    [, inner] = value as readonly CborValue[];
  }
  if (!(inner instanceof Uint8Array)) throw fail(`the ${what} is ${showCbor(inner)}, expected bytes`);
  return inner;
}

function claimsOf(cose: CoseSign1, what: string): CborFields {
  const claims = decodeCbor(cose.payload, `${what} claims`);
  if (!isMap(claims)) throw fail(`the claims of the ${what} are no map`);
  // Claims beyond those known are allowed (RFC 9711 section 7).
  return new CborFields(claims, (why) => fail(`${what}: ${why}`));
}

function parsePlatform(bytes: Uint8Array): CcaPlatform {
  const cose = parseCoseSign1(bytes, "platform token");
  const claims = claimsOf(cose, "platform token");
  return {
    cose,
    profile: claims.text(265, "cca-platform-profile"),
    challenge: claims.bytes(10, "cca-platform-challenge", { sizes: DIGEST_SIZES }),
    implementationId: claims.bytes(2396, "cca-platform-implementation-id", { sizes: [32] }),
    instanceId: readInstanceId(claims, "platform"),
    config: claims.bytes(2401, "cca-platform-config"),
    lifecycle: claims.integer(2395, "cca-platform-lifecycle", 0xffff),
    swComponents: readComponents(claims.array(2399, "cca-platform-sw-components")),
    verificationService: claims.optionalText(2400, "cca-platform-verification-service"),
    hashAlg: claims.text(2402, "cca-platform-hash-algo-id", 64),
  };
}

function readInstanceId(claims: CborFields, of: "platform" | "realm"): Uint8Array {
  const id = claims.bytes(256, `cca-${of}-instance-id`, { sizes: [33] });
  if (id[0] !== 1) throw fail(`${of} token: cca-${of}-instance-id is no UEID of type RAND`);
  return id;
}

function readMecPolicy(claims: CborFields): string {
  const policy = claims.text(44243, "cca-realm-mec-policy", 64);
  if (policy !== "private" && policy !== "shared") {
    throw fail(`realm token: cca-realm-mec-policy is ${JSON.stringify(policy)}, expected private or shared`);
  }
  return policy;
}

function readComponents(list: readonly CborValue[]): readonly CcaSwComponent[] {
  if (list.length === 0 || list.length > MAX_COMPONENTS) {
    throw fail(`platform token: ${list.length} software components, expected 1 to ${MAX_COMPONENTS}`);
  }
  return list.map((entry, i) => {
    if (!isMap(entry)) throw fail(`platform token: software component ${i} is no map`);
    const fields = new CborFields(entry, (why) => fail(`platform token: software component ${i}: ${why}`));
    return {
      type: fields.optionalText(1, "component type"),
      measurement: fields.bytes(2, "measurement value", { sizes: DIGEST_SIZES }),
      version: fields.optionalText(4, "version"),
      signerId: fields.bytes(5, "signer id", { sizes: DIGEST_SIZES }),
      hashAlg: fields.optionalText(6, "hash algorithm id"),
    };
  });
}

function parseRealm(bytes: Uint8Array): CcaRealm {
  const cose = parseCoseSign1(bytes, "realm token");
  const claims = claimsOf(cose, "realm token");
  const extensible = claims.array(44239, "cca-realm-extensible-measurements");
  if (extensible.length !== 4) {
    throw fail(`realm token: ${extensible.length} extensible measurements, expected 4`);
  }
  const profile = claims.optionalText(265, "cca-realm-profile");
  const is2024 = profile === REALM_PROFILE_2024;
  return {
    cose,
    profile,
    challenge: claims.bytes(10, "cca-realm-challenge", { sizes: [64] }),
    personalizationValue: claims.bytes(44235, "cca-realm-personalization-value", { sizes: [64] }),
    initialMeasurement: claims.bytes(44238, "cca-realm-initial-measurement", { sizes: DIGEST_SIZES }),
    extensibleMeasurements: extensible.map((value, i) => {
      if (!(value instanceof Uint8Array) || !DIGEST_SIZES.includes(value.byteLength)) {
        throw fail(`realm token: extensible measurement ${i} is ${showCbor(value)}, expected a digest`);
      }
      return value;
    }),
    hashAlg: claims.text(44236, "cca-realm-hash-algo-id", 64),
    publicKey: claims.bytes(44237, "cca-realm-public-key", { minimum: 1, maximum: 1024 }),
    publicKeyHashAlg: claims.text(44240, "cca-realm-public-key-hash-algo-id", 64),
    mecPolicy: is2024 ? readMecPolicy(claims) : undefined,
    instanceId: is2024 ? readInstanceId(claims, "realm") : undefined,
  };
}
