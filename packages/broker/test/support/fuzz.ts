import { randomInt } from "node:crypto";
import { ShelterError } from "@shelter/base";
import { type PlatformVerifier, tpmPlatform } from "@shelter/broker";
import { parseAttestRequest, parseAuthRequest, reportData } from "../../src/wire/messages.ts";
import { parsePattern, parseResourcePath } from "../../src/wire/resource-path.ts";
import { Guest } from "./guest.ts";
import { authority } from "./running.ts";
import { bootEvents, SoftTpm } from "./soft-tpm.ts";

/** Numbers that a seed determines (mulberry32). */
export function generator(seed: number): (below: number) => number {
  let state = seed >>> 0;
  return (below) => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** A seed for a run that was given none. */
export const freshSeed = (): number => randomInt(2 ** 31);

const JUNK: readonly unknown[] = [
  null,
  true,
  0,
  -1,
  1.5,
  1e308,
  "",
  "A",
  "AAAA",
  "\u0000",
  "\ud800",
  "../..",
  [],
  {},
  [[[]]],
  { __proto__: null },
  "A".repeat(5000),
  { constructor: { prototype: 1 } },
  Array(100).fill(0),
];

type Random = (below: number) => number;

/** Alters one place of a JSON value: a member goes, becomes junk, or its base64 content changes. */
function bend(value: unknown, random: Random): unknown {
  const copy = structuredClone(value);
  const places: { holder: Record<string, unknown>; key: string }[] = [];
  const walk = (at: unknown) => {
    if (at === null || typeof at !== "object") return;
    for (const key of Object.keys(at)) {
      places.push({ holder: at as Record<string, unknown>, key });
      walk((at as Record<string, unknown>)[key]);
    }
  };
  walk(copy);
  const place = places[random(places.length)];
  if (!place) return copy;
  const { holder, key } = place;
  const old = holder[key];
  switch (random(14)) {
    case 0:
      delete holder[key];
      break;
    case 1:
      holder[key] = JUNK[random(JUNK.length)];
      break;
    case 2:
      holder[`${key}x`] = old;
      break;
    default:
      holder[key] =
        typeof old === "string" && old.length > 0 ? bendText(old, random) : JUNK[random(JUNK.length)];
  }
  return copy;
}

function bendText(text: string, random: Random): string {
  if (/^[A-Za-z0-9+/]+=*$/.test(text) && random(4) > 0) {
    return bendBytes(Buffer.from(text, "base64"), random).toString("base64");
  }
  const at = random(text.length);
  return `${text.slice(0, at)}${String.fromCharCode(random(300))}${text.slice(at + random(3))}`;
}

function bendBytes(bytes: Buffer, random: Random): Buffer {
  const copy = Buffer.from(bytes);
  if (copy.byteLength === 0) return Buffer.from([random(256)]);
  const at = random(copy.byteLength);
  switch (random(5)) {
    case 0:
      return copy.subarray(0, at);
    case 1:
      return Buffer.concat([copy, Buffer.alloc(1 + random(40), random(256))]);
    case 2:
      copy.fill(0xff, at, Math.min(copy.byteLength, at + 1 + random(4)));
      return copy;
    default:
      copy[at] = (copy[at] ?? 0) ^ (1 << random(8));
      return copy;
  }
}

/** How far the altered messages of a run came. */
export interface FuzzResult {
  tried: number;
  /** Refused before anything was verified. */
  malformed: number;
  /** Verified, and found wanting. */
  refused: number;
  /** Accepted, because what was altered decides nothing. */
  accepted: number;
}

/**
 * Alters the messages of a good handshake and judges each. Anything but a named refusal, and any
 * acceptance of an altered nonce, key, quote or activation, is an error.
 */
export async function fuzzRequests(
  seed: number,
  stop: (tried: number) => boolean,
  platform: PlatformVerifier = tpmPlatform(),
): Promise<FuzzResult> {
  const random = generator(seed);
  const ca = authority();
  const now = new Date("2026-11-01T12:00:00Z");
  const guest = new Guest("http://unused", new SoftTpm({ ca: ca.issuer, events: bootEvents() }));
  const authBody = guest.authBody();
  const { reply, keep } = platform.challenge(parseAuthRequest(JSON.stringify(authBody)).extraParams);
  const nonce = Buffer.alloc(32, 7).toString("base64");
  const body = guest.attestBody({ cookie: "", nonce, extra: reply });
  const result: FuzzResult = { tried: 0, malformed: 0, refused: 0, accepted: 0 };

  const judge = async (text: string) => {
    const request = parseAttestRequest(text);
    const expected = reportData(nonce, request.teeKey.jwk, request.additionalEvidence);
    const { verdict } = await platform.verify({
      evidence: request.primaryEvidence,
      reportData: expected,
      keep,
      anchors: [ca.certificate],
      now,
    });
    if (verdict.outcome !== "accepted") {
      result.refused++;
      return;
    }
    result.accepted++;
    const decisive = (value: unknown) => {
      const message = value as typeof body & Record<string, Record<string, Record<string, unknown>>>;
      const evidence = message["tee-evidence"]?.["primary_evidence"] as Record<
        string,
        Record<string, unknown>
      >;
      return JSON.stringify([
        Object.entries(message["runtime-data"]?.["tee-pubkey"] ?? {}).sort(),
        evidence["tpm_quote"]?.["message"],
        evidence["tpm_quote"]?.["signature"],
        evidence["activation"],
        evidence["ek_certificate"],
        evidence["ak_tpm_public"],
      ]);
    };
    const canonical = (v: string) => v.replace(/=+"/g, '"');
    if (canonical(decisive(JSON.parse(text))) !== canonical(decisive(body)))
      throw new Error("accepted altered evidence");
  };

  await judge(JSON.stringify(body));
  if (result.accepted !== 1) throw new Error("the unaltered handshake is not accepted");
  while (!stop(result.tried)) {
    result.tried++;
    const rounds = random(4) === 0 ? 3 : 1;
    let text: string;
    let work: (text: string) => unknown;
    if (random(4) === 0) {
      let bent: unknown = authBody;
      for (let i = 0; i < rounds; i++) bent = bend(bent, random);
      text = JSON.stringify(bent);
      work = (t) => platform.challenge(parseAuthRequest(t).extraParams);
    } else {
      let bent: unknown = body;
      for (let i = 0; i < rounds; i++) bent = bend(bent, random);
      text = JSON.stringify(bent);
      work = judge;
    }
    if (random(10) === 0) text = bendBytes(Buffer.from(text), random).toString("latin1");
    try {
      await work(text);
      parseLoosely(text, random);
    } catch (error) {
      if (!(error instanceof ShelterError) || error.kind === "bug") {
        throw new Error(`seed ${seed}, message ${result.tried}: ${text.slice(0, 2000)}`, { cause: error });
      }
      result.malformed++;
    }
  }
  return result;
}

/** Paths and patterns cut out of whatever is at hand: refused by name or three plain parts. */
function parseLoosely(text: string, random: Random): void {
  const at = random(text.length);
  const piece = text.slice(at, at + random(40)).replaceAll(/["{}:,]/g, "/");
  for (const parse of [parseResourcePath, parsePattern]) {
    try {
      const path = parse(piece);
      if (!/^[\w*.-]+\/[\w*.-]+\/[\w*.-]+$/.test(path))
        throw new Error(`taken for a path: ${JSON.stringify(piece)}`);
    } catch (error) {
      if (!(error instanceof ShelterError)) throw error;
    }
  }
}
