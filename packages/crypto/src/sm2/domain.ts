import { invert } from "@noble/curves/abstract/modular.js";
import {
  type WeierstrassPoint,
  type WeierstrassPointCons,
  weierstrass,
} from "@noble/curves/abstract/weierstrass.js";
import { CryptoError } from "../error.ts";

/** Point of a curve in this package's arithmetic. */
export type Point = WeierstrassPoint<bigint>;

/** Parameters of a curve over a 256-bit prime field with cofactor 1 (GB/T 32918.1). */
export interface CurveParameters {
  readonly p: bigint;
  readonly a: bigint;
  readonly b: bigint;
  readonly n: bigint;
  readonly gx: bigint;
  readonly gy: bigint;
}

/** The recommended curve of GB/T 32918.5-2017, `sm2p256v1` (OID 1.2.156.10197.1.301). */
export const SM2P256V1: CurveParameters = {
  p: 0xfffffffeffffffffffffffffffffffffffffffff00000000ffffffffffffffffn,
  a: 0xfffffffeffffffffffffffffffffffffffffffff00000000fffffffffffffffcn,
  b: 0x28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93n,
  n: 0xfffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123n,
  gx: 0x32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7n,
  gy: 0xbc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0n,
};

/** A curve with its arithmetic and the bytes that SM2's identity digest needs. */
export class Domain {
  readonly parameters: CurveParameters;
  readonly n: bigint;
  readonly point: WeierstrassPointCons<bigint>;
  /** a, b, xG and yG, 32 bytes each: the constant part of ZA. */
  readonly constants: Uint8Array;

  constructor(parameters: CurveParameters) {
    this.parameters = parameters;
    this.n = parameters.n;
    const { p, a, b, n, gx, gy } = parameters;
    this.point = weierstrass<bigint>({ p, a, b, n, h: 1n, Gx: gx, Gy: gy });
    this.constants = Buffer.concat([toBytes(a), toBytes(b), toBytes(gx), toBytes(gy)]);
  }

  /** Least non-negative residue modulo the order. */
  mod(value: bigint): bigint {
    const rest = value % this.n;
    return rest < 0n ? rest + this.n : rest;
  }

  /** Inverse modulo the order. Its time depends on the value: blind a secret before. */
  invert(value: bigint): bigint {
    return invert(value, this.n);
  }

  /**
   * Reads a public key: 65 bytes, uncompressed. Anything else, a coordinate past the field, a point off the
   * curve and the point at infinity are refused.
   */
  readPoint(bytes: Uint8Array, what = "public key"): Point {
    if (bytes.byteLength !== 65 || bytes[0] !== 4) {
      const first = bytes.byteLength === 0 ? "nothing" : `0x${(bytes[0] ?? 0).toString(16).padStart(2, "0")}`;
      throw new CryptoError(
        "SM2_POINT",
        `${what}: expected 65 bytes beginning with 0x04, have ${bytes.byteLength} beginning with ${first}`,
      );
    }
    const x = toNumber(bytes.subarray(1, 33));
    const y = toNumber(bytes.subarray(33, 65));
    const { p, a, b } = this.parameters;
    if (x >= p || y >= p)
      throw new CryptoError("SM2_POINT", `${what}: a coordinate is not below the field's prime`);
    if ((y * y - (x * x * x + a * x + b)) % p !== 0n)
      throw new CryptoError("SM2_POINT", `${what}: not on the curve`);
    return this.point.fromAffine({ x, y });
  }

  /** Reads a private key: 32 bytes, 1 to n - 2 (GB/T 32918.2 section 5.1; n - 1 has no signature). */
  readPrivateKey(bytes: Uint8Array): bigint {
    if (bytes.byteLength !== 32) {
      throw new CryptoError("SM2_SCALAR", `private key: expected 32 bytes, have ${bytes.byteLength}`);
    }
    const d = toNumber(bytes);
    if (d === 0n || d >= this.n - 1n)
      throw new CryptoError("SM2_SCALAR", "private key: not between 1 and n - 2");
    return d;
  }
}

/** A number of at most 256 bits as 32 bytes, most significant first. */
export function toBytes(value: bigint): Uint8Array {
  return Buffer.from(value.toString(16).padStart(64, "0"), "hex");
}

/** The number that bytes are, most significant first. */
export function toNumber(bytes: Uint8Array): bigint {
  return bytes.byteLength === 0
    ? 0n
    : BigInt(`0x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("hex")}`);
}

/** `04 || x || y` of a point other than infinity. */
export function pointBytes(point: Point): Uint8Array {
  const { x, y } = point.toAffine();
  return Buffer.concat([Uint8Array.of(4), toBytes(x), toBytes(y)]);
}
