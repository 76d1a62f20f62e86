import { toHex } from "@shelter/base";
import { lifecycleState } from "./profile.ts";
import type { CcaToken } from "./token.ts";

/** The values of a token, hex for bytes and null for what it leaves out. */
export function ccaClaims({ platform, realm }: CcaToken): Readonly<Record<string, unknown>> {
  return {
    platform: {
      profile: platform.profile,
      challenge: toHex(platform.challenge),
      implementation_id: toHex(platform.implementationId),
      instance_id: toHex(platform.instanceId),
      config: toHex(platform.config),
      lifecycle: platform.lifecycle,
      lifecycle_state: lifecycleState(platform.lifecycle),
      hash_alg: platform.hashAlg,
      service_indicator: platform.verificationService ?? null,
      sw_components: platform.swComponents.map((c) => ({
        type: c.type ?? null,
        version: c.version ?? null,
        measurement: toHex(c.measurement),
        signer_id: toHex(c.signerId),
        hash_alg: c.hashAlg ?? null,
      })),
    },
    realm: {
      profile: realm.profile ?? null,
      challenge: toHex(realm.challenge),
      personalization_value: toHex(realm.personalizationValue),
      initial_measurement: toHex(realm.initialMeasurement),
      extensible_measurements: realm.extensibleMeasurements.map(toHex),
      hash_alg: realm.hashAlg,
      rak: toHex(realm.publicKey),
      rak_hash_alg: realm.publicKeyHashAlg,
      rak_encoding: realm.profile === undefined ? "raw SEC1 point" : "COSE_Key",
      ...(realm.mecPolicy === undefined ? {} : { mec_policy: realm.mecPolicy }),
      ...(realm.instanceId === undefined ? {} : { instance_id: toHex(realm.instanceId) }),
    },
  };
}
