import { type Field, field, group } from "../describe.ts";
import { lifecycleState } from "./profile.ts";
import { type CcaPlatform, type CcaRealm, parseCcaToken } from "./token.ts";

/** Decoded token, named as Arm's specification names its claims. */
export function renderCca(bytes: Uint8Array): readonly Field[] {
  const { form, platform, realm } = parseCcaToken(bytes);
  return [
    field("cca-token", form === "cmw" ? "CMW (tag 907)" : "EAT collection (tag 399)"),
    group("cca-platform-token", platformFields(platform)),
    group("cca-realm-delegated-token", realmFields(realm)),
  ];
}

function platformFields(p: CcaPlatform): readonly Field[] {
  const optional = (name: string, value: string | undefined): Field[] =>
    value === undefined ? [] : [field(name, value)];
  return [
    field("alg", p.cose.algorithm?.name ?? p.cose.alg),
    field("cca-platform-profile", p.profile),
    field("cca-platform-challenge", p.challenge),
    field("cca-platform-implementation-id", p.implementationId),
    field("cca-platform-instance-id", p.instanceId),
    field("cca-platform-config", p.config),
    field(
      "cca-platform-lifecycle",
      `0x${p.lifecycle.toString(16).padStart(4, "0")} (${lifecycleState(p.lifecycle)})`,
    ),
    group(
      "cca-platform-sw-components",
      p.swComponents.map((c, i) =>
        group(String(i), [
          ...optional("component-type", c.type),
          field("measurement-value", c.measurement),
          ...optional("version", c.version),
          field("signer-id", c.signerId),
          ...optional("hash-algo-id", c.hashAlg),
        ]),
      ),
    ),
    ...optional("cca-platform-verification-service", p.verificationService),
    field("cca-platform-hash-algo-id", p.hashAlg),
    field("signature", p.cose.signature),
  ];
}

function realmFields(r: CcaRealm): readonly Field[] {
  return [
    field("alg", r.cose.algorithm?.name ?? r.cose.alg),
    ...(r.profile === undefined ? [] : [field("cca-realm-profile", r.profile)]),
    field("cca-realm-challenge", r.challenge),
    field("cca-realm-personalization-value", r.personalizationValue),
    field("cca-realm-initial-measurement", r.initialMeasurement),
    group(
      "cca-realm-extensible-measurements",
      r.extensibleMeasurements.map((m, i) => field(String(i), m)),
    ),
    field("cca-realm-hash-algo-id", r.hashAlg),
    field("cca-realm-public-key", r.publicKey),
    field("cca-realm-public-key-hash-algo-id", r.publicKeyHashAlg),
    ...(r.mecPolicy === undefined ? [] : [field("cca-realm-mec-policy", r.mecPolicy)]),
    ...(r.instanceId === undefined ? [] : [field("cca-realm-instance-id", r.instanceId)]),
    field("signature", r.cose.signature),
  ];
}
