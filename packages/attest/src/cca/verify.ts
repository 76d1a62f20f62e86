import { describe, ShelterError, sameBytes, toHex } from "@shelter/base";
import { type EcKey, parseCoseKey, parseSec1Point, verifyCoseSign1 } from "../cbor/index.ts";
import { CheckList, type Verdict } from "../verdict.ts";
import { ccaClaims } from "./claims.ts";
import { type CcaExpectations, judgeCcaExpectations } from "./expect.ts";
import { type CcaPlatformKey, parseCcaPlatformKeys } from "./key.ts";
import {
  namedHash,
  PLATFORM_PROFILE_1,
  PLATFORM_PROFILE_2023,
  PLATFORM_PROFILE_2024,
  REALM_PROFILE_2023,
  REALM_PROFILE_2024,
} from "./profile.ts";
import { type CcaRealm, type CcaToken, parseCcaToken } from "./token.ts";

/** A token, the platform keys to trust, and what is expected of it. */
export interface CcaInput {
  readonly token: Uint8Array;
  /**
   * The platform attestation key (JWK, PEM, DER) or a list of keys with the platforms they are of. There is no
   * built-in one: Arm runs no authority, each platform's vendor vouches for its keys.
   */
  readonly cpak?: Uint8Array;
  readonly expect?: CcaExpectations;
}

/** Judges an Arm CCA token: the platform's key signs the platform token, which vouches for the key of the realm token. Pure; tokens carry no dates. */
export function verifyCca(input: CcaInput): Verdict {
  const checks = new CheckList();
  const token = attempt(checks, "token-form", () => parseCcaToken(input.token));
  if (token === undefined) return checks.verdict("cca", {});
  checks.add({ name: "token-form", ok: true, failure: "malformed", claimed: token.form });
  judgeProfiles(token, checks);
  judgePlatform(token, input.cpak, checks);
  judgeRealm(token, checks);
  judgeCcaExpectations(token, input.expect ?? {}, checks);
  return checks.verdict("cca", ccaClaims(token));
}

/** What is malformed becomes a check; what is not our own named error is our own mistake. */
function attempt<T>(checks: CheckList, name: string, parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (!(error instanceof ShelterError)) throw error;
    checks.add({ name, ok: false, failure: "malformed", detail: describe(error) });
    return undefined;
  }
}

function judgeProfiles({ platform, realm }: CcaToken, checks: CheckList): void {
  const known = [PLATFORM_PROFILE_1, PLATFORM_PROFILE_2023, PLATFORM_PROFILE_2024];
  const realms = [REALM_PROFILE_2023, REALM_PROFILE_2024];
  checks.add({
    name: "platform-profile",
    ok: known.includes(platform.profile),
    failure: "untrusted",
    claimed: platform.profile,
    expected: known.join(" or "),
  });
  checks.add({
    name: "realm-profile",
    ok: realm.profile === undefined || realms.includes(realm.profile),
    failure: "untrusted",
    claimed: realm.profile ?? "none, as before 2023",
    expected: `none, ${realms.join(" or ")}`,
  });
}

function judgePlatform({ platform }: CcaToken, cpak: Uint8Array | undefined, checks: CheckList): void {
  const missing = `cpak of instance ${toHex(platform.instanceId)}, implementation ${toHex(platform.implementationId)}`;
  if (cpak === undefined) {
    checks.miss(missing);
    return;
  }
  const keys = attempt(checks, "cpak-form", () => parseCcaPlatformKeys(cpak));
  if (keys === undefined) return;
  const isOf = (k: CcaPlatformKey): boolean =>
    (k.instanceId === undefined || sameBytes(k.instanceId, platform.instanceId)) &&
    (k.implementationId === undefined || sameBytes(k.implementationId, platform.implementationId));
  const mine = keys.filter(isOf);
  if (mine.length === 0) {
    checks.miss(missing);
    return;
  }
  const { cose } = platform;
  checks.add({
    name: "platform-signature",
    ok: mine.some((k) => verifyCoseSign1(cose, k.key)),
    failure: "untrusted",
    claimed: cose.algorithm?.name ?? `algorithm ${cose.alg}`,
    expected: `by the given platform key (${[...new Set(mine.map((k) => k.key.curve))].join(", ")})`,
  });
}

/** The realm attestation key: raw before 2023, a COSE_Key since. */
function realmKey(realm: CcaRealm): EcKey {
  const what = "cca-realm-public-key";
  return realm.profile === undefined
    ? parseSec1Point(realm.publicKey, what)
    : parseCoseKey(realm.publicKey, what);
}

function judgeRealm({ platform, realm }: CcaToken, checks: CheckList): void {
  const key = attempt(checks, "realm-key-form", () => realmKey(realm));
  if (key !== undefined) {
    checks.add({
      name: "realm-signature",
      ok: verifyCoseSign1(realm.cose, key),
      failure: "untrusted",
      claimed: realm.cose.algorithm?.name ?? `algorithm ${realm.cose.alg}`,
      expected: `by the key in its claims (${key.curve})`,
    });
  }
  const digest = namedHash(realm.publicKeyHashAlg, realm.publicKey);
  checks.add({
    name: "realm-binding",
    ok: digest !== undefined && sameBytes(digest, platform.challenge),
    failure: "untrusted",
    claimed: toHex(platform.challenge),
    expected:
      digest === undefined
        ? `no digest: hash ${JSON.stringify(realm.publicKeyHashAlg)} is not accepted`
        : `${toHex(digest)}, the ${realm.publicKeyHashAlg} of the realm's key`,
    detail: "the platform token's challenge is the digest of the realm's key",
  });
}
