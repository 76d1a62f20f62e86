import { fromHex } from "@shelter/base";
import { type Cbor, CborTagged, encodeCbor } from "./cbor.ts";
import type { MeasuredPlatform, ReferenceValue, ReferenceValues } from "./measurement.ts";

/** CBOR tags of draft-ietf-rats-corim. */
const TAG = { unsignedCorim: 501, comid: 506 } as const;
/** Map keys there: unsigned-corim-map, concise-mid-tag, class-map, measurement-map, measurement-values-map. */
const CORIM = { id: 0, tags: 1 } as const;
const COMID = { identity: 1, triples: 4 } as const;
const IDENTITY = { id: 0, version: 1 } as const;
const TRIPLES = { reference: 0 } as const;
const ENVIRONMENT = { class: 0 } as const;
const CLASS = { vendor: 1, model: 2 } as const;
const MEASUREMENT = { key: 0, values: 1 } as const;
const VALUES = { digests: 2, integrityRegisters: 14 } as const;

/** Algorithm identifiers of IANA's registry "Named Information Hash Algorithm", which has no SM3: its name stands for it. */
const ALGORITHM = { sha256: 1, sha384: 7, sm3: "sm3" } as const;

const CLASSES: Readonly<Record<MeasuredPlatform, readonly [vendor: string, model: string]>> = {
  vtpm: ["TCG", "TPM 2.0"],
  snp: ["AMD", "SEV-SNP"],
  tdx: ["Intel", "TDX"],
  csv: ["Hygon", "CSV"],
};

/**
 * Reference values as an unsigned CoRIM with one CoMID: one reference triple for each state that is right, so that
 * registers of different states are never mixed.
 */
export function corim({ workload, image, values }: ReferenceValues): Uint8Array {
  const id = `shelter:${workload}@${image}`;
  const comid = new Map<number, Cbor>([
    [
      COMID.identity,
      new Map<number, Cbor>([
        [IDENTITY.id, id],
        [IDENTITY.version, 0],
      ]),
    ],
    [COMID.triples, new Map<number, Cbor>([[TRIPLES.reference, values.map(triple)]])],
  ]);
  return encodeCbor(
    new CborTagged(
      TAG.unsignedCorim,
      new Map<number, Cbor>([
        [CORIM.id, id],
        [CORIM.tags, [new CborTagged(TAG.comid, encodeCbor(comid))]],
      ]),
    ),
  );
}

function triple(value: ReferenceValue): Cbor {
  const [vendor, model] = CLASSES[value.platform];
  const classMap = new Map<number, Cbor>([
    [CLASS.vendor, vendor],
    [CLASS.model, model],
  ]);
  return [new Map<number, Cbor>([[ENVIRONMENT.class, classMap]]), measurements(value)];
}

function measurements(value: ReferenceValue): Cbor[] {
  switch (value.platform) {
    case "vtpm":
      return [measured("pcrs", VALUES.integrityRegisters, registers(value.pcrs, ALGORITHM.sha256))];
    case "snp":
      return [measured("measurement", VALUES.digests, [digest(value.measurement, ALGORITHM.sha384)])];
    case "csv":
      return [measured("measure", VALUES.digests, [digest(value.measurement, ALGORITHM.sm3)])];
    case "tdx":
      return [
        measured("mrtd", VALUES.digests, [digest(value.mrtd, ALGORITHM.sha384)]),
        measured("rtmrs", VALUES.integrityRegisters, registers(value.rtmrs, ALGORITHM.sha384)),
      ];
    default:
      return value satisfies never;
  }
}

function measured(key: string, member: number, values: Cbor): Cbor {
  return new Map<number, Cbor>([
    [MEASUREMENT.key, key],
    [MEASUREMENT.values, new Map([[member, values]])],
  ]);
}

function registers(values: Readonly<Record<string, string>>, algorithm: number): Cbor {
  return new Map(
    Object.entries(values).map(([number, value]) => [Number(number), [digest(value, algorithm)]] as const),
  );
}

function digest(hex: string, algorithm: number | string): Cbor {
  return [algorithm, fromHex(hex)];
}
