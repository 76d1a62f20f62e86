import { createECDH, createHash, createPublicKey, verify } from "node:crypto";
import { derElement, derInteger, derOctets, derSequence } from "./der.ts";
import { type Domain, type Point, SM2P256V1, toBytes, toNumber } from "./domain.ts";
import type { SignatureNumbers } from "./verify.ts";

// Node verifies SM2 only with an empty identity, but it verifies ECDSA over any curve, and an SM2 verification
// can be restated as an ECDSA verification:
//
//   SM2 accepts when x(sG + tP) = r - e (mod n), with t = r + s.
//   ECDSA accepts when x(h/w G + v/w Q) = v (mod n), for the signature (v, w), the hash h and the key Q.
//
// h is the digest of a constant message, since Node hashes by itself. With v = r - e, w = v/t and
// Q = P + bG, b = s/t - h/v, both points are the same, so both accept exactly the same signatures: nothing
// is added to or taken from what SM2 demands. v = 0 and Q at infinity have no ECDSA form and go the slow way.
//
// OpenSSL makes an SM2 key (which then refuses ECDSA) of any key naming sm2p256v1, and of explicit parameters
// equal to it. The same curve with the generator -G is none of these; Q is negated along, which changes no x.

const NO_HASH_INPUT = Buffer.from("shelter sm2 verification");

function explicitKeyPrefix(): Uint8Array {
  const { p, a, b, n, gx, gy } = SM2P256V1;
  const generator = Buffer.concat([Uint8Array.of(4), toBytes(gx), toBytes(p - gy)]);
  const oid = (hex: string): Uint8Array => derElement(0x06, Buffer.from(hex, "hex"));
  const algorithm = derSequence(
    oid("2a8648ce3d0201"), // id-ecPublicKey
    derSequence(
      derInteger(1n),
      derSequence(oid("2a8648ce3d0101"), derInteger(p)), // prime-field
      derSequence(derOctets(toBytes(a)), derOctets(toBytes(b))),
      derOctets(generator),
      derInteger(n),
      derInteger(1n),
    ),
  );
  const whole = derSequence(algorithm, derElement(0x03, new Uint8Array(66).fill(4, 1, 2)));
  return whole.subarray(0, whole.byteLength - 64);
}

/** The fast verification over the recommended curve; undefined where the case needs the slow one. */
export class NativeVerifier {
  readonly #prefix = explicitKeyPrefix();
  readonly #h = toNumber(createHash("sha256").update(NO_HASH_INPUT).digest());

  /** `domain` is the recommended curve, `publicKey` a point of it. */
  verify(domain: Domain, publicKey: Point, e: bigint, { r, s }: SignatureNumbers): boolean | undefined {
    const { n } = domain;
    if (r <= 0n || r >= n || s <= 0n || s >= n) return false;
    const t = domain.mod(r + s);
    if (t === 0n) return false;
    const v = domain.mod(r - e);
    if (v === 0n) return undefined;
    const inverse = domain.invert(domain.mod(t * v));
    const tInverse = domain.mod(inverse * v);
    const w = domain.mod(v * tInverse);
    const b = domain.mod(s * tInverse - this.#h * domain.mod(inverse * t));
    let q = publicKey;
    if (b !== 0n) {
      const ecdh = createECDH("SM2");
      ecdh.setPrivateKey(toBytes(b));
      const bG = ecdh.getPublicKey();
      q = publicKey.add(
        domain.point.fromAffine({ x: toNumber(bG.subarray(1, 33)), y: toNumber(bG.subarray(33)) }),
      );
    }
    if (q.is0()) return undefined;
    const { x, y } = q.negate().toAffine();
    const key = createPublicKey({
      key: Buffer.concat([this.#prefix, toBytes(x), toBytes(y)]),
      format: "der",
      type: "spki",
    });
    return verify("sha256", NO_HASH_INPUT, key, derSequence(derInteger(v), derInteger(w)));
  }
}

let verifier: NativeVerifier | null | undefined;

/** The native verifier, or null where this Node cannot: decided once, by a signature that must hold and one that must not. */
export function nativeVerifier(domain: Domain): NativeVerifier | null {
  if (domain.parameters !== SM2P256V1) return null;
  if (verifier === undefined) {
    const candidate = new NativeVerifier();
    try {
      // d = 2, k = 3, e = 1 in the formulas of GB/T 32918.2 section 6.1.
      const { BASE } = domain.point;
      const r = domain.mod(1n + BASE.multiplyUnsafe(3n).toAffine().x);
      const s = domain.mod(domain.invert(3n) * (3n - 2n * r));
      const key = BASE.multiplyUnsafe(2n);
      const holds = candidate.verify(domain, key, 1n, { r, s }) === true;
      const refuses = candidate.verify(domain, key, 2n, { r, s }) === false;
      verifier = holds && refuses ? candidate : null;
    } catch {
      verifier = null;
    }
  }
  return verifier;
}
