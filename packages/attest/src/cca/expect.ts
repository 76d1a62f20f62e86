import { sameBytes, toHex } from "@shelter/base";
import type { CheckList } from "../verdict.ts";
import { lifecycleState } from "./profile.ts";
import type { CcaSwComponent, CcaToken } from "./token.ts";

/**
 * What a relying party expects of a token. Whatever is absent is not compared; the permissions
 * (`allow…`) are refusals unless given.
 */
export interface CcaExpectations {
  /** Shorter than the field: padded with zeros behind, as the agents pad. */
  readonly challenge?: Uint8Array;
  readonly personalizationValue?: Uint8Array;
  /** Realm initial measurements (RIM), any one of these. */
  readonly initialMeasurements?: readonly Uint8Array[];
  /** Extensible measurements (REM) by number, 0 to 3. */
  readonly extensibleMeasurements?: Readonly<Record<number, Uint8Array>>;
  readonly implementationIds?: readonly Uint8Array[];
  readonly instanceIds?: readonly Uint8Array[];
  readonly configs?: readonly Uint8Array[];
  /** Every component of the platform must be one of these. */
  readonly swComponents?: readonly CcaReferenceComponent[];
  /** Platform debug states, in which the realm's memory may be read. */
  readonly allowDebug?: boolean;
}

/** A component to compare with; what it does not name is not compared. */
export interface CcaReferenceComponent {
  readonly type?: string;
  readonly measurement: Uint8Array;
  readonly signerId?: Uint8Array;
  readonly version?: string;
}

/** Compares a token with what is expected of it. */
export function judgeCcaExpectations(token: CcaToken, expect: CcaExpectations, checks: CheckList): void {
  const { platform, realm } = token;
  judgeLifecycle(platform.lifecycle, expect.allowDebug === true, checks);
  if (expect.challenge !== undefined) {
    const padded = new Uint8Array(64);
    const fits = expect.challenge.byteLength <= 64;
    if (fits) padded.set(expect.challenge);
    checks.add({
      name: "realm-challenge",
      ok: fits && sameBytes(realm.challenge, padded),
      failure: "untrusted",
      claimed: toHex(realm.challenge),
      expected: toHex(expect.challenge),
    });
  }
  const oneOf = (
    name: string,
    claimed: Uint8Array | undefined,
    list: readonly Uint8Array[] | undefined,
  ): void => {
    if (list === undefined) return;
    checks.add({
      name,
      ok: claimed !== undefined && list.some((v) => sameBytes(v, claimed)),
      failure: "refused",
      claimed: claimed === undefined ? "absent" : toHex(claimed),
      expected: list.map(toHex).join(" or ") || "none is allowed",
    });
  };
  oneOf("realm-initial-measurement", realm.initialMeasurement, expect.initialMeasurements);
  const { personalizationValue } = expect;
  oneOf(
    "realm-personalization-value",
    realm.personalizationValue,
    personalizationValue && [personalizationValue],
  );
  for (const [index, value] of Object.entries(expect.extensibleMeasurements ?? {})) {
    oneOf(`realm-extensible-measurement-${index}`, realm.extensibleMeasurements[Number(index)], [value]);
  }
  oneOf("platform-implementation-id", platform.implementationId, expect.implementationIds);
  oneOf("platform-instance-id", platform.instanceId, expect.instanceIds);
  oneOf("platform-config", platform.config, expect.configs);
  if (expect.swComponents !== undefined) judgeComponents(platform.swComponents, expect.swComponents, checks);
}

function judgeLifecycle(value: number, allowDebug: boolean, checks: CheckList): void {
  const state = lifecycleState(value);
  const debug = state === "non-cca-platform-debug" || state === "recoverable-cca-platform-debug";
  checks.add({
    name: "platform-lifecycle",
    ok: state === "secured" || (debug && allowDebug),
    failure: "refused",
    claimed: `${state} (0x${value.toString(16).padStart(4, "0")})`,
    expected: allowDebug ? "secured or debug" : "secured",
  });
}

function judgeComponents(
  claimed: readonly CcaSwComponent[],
  references: readonly CcaReferenceComponent[],
  checks: CheckList,
): void {
  const unknown = claimed.filter((c) => !references.some((r) => matches(c, r)));
  checks.add({
    name: "platform-sw-components",
    ok: unknown.length === 0,
    failure: "refused",
    claimed: claimed.map((c) => `${c.type ?? "component"} ${toHex(c.measurement)}`).join(", "),
    expected: `each one of ${references.length} reference components`,
    ...(unknown.length === 0
      ? {}
      : {
          detail: `unknown: ${unknown.map((c) => `${c.type ?? "component"} ${toHex(c.measurement)}`).join(", ")}`,
        }),
  });
}

function matches(c: CcaSwComponent, r: CcaReferenceComponent): boolean {
  return (
    sameBytes(c.measurement, r.measurement) &&
    (r.signerId === undefined || sameBytes(c.signerId, r.signerId)) &&
    (r.type === undefined || c.type === r.type) &&
    (r.version === undefined || c.version === r.version)
  );
}
