import {
  constants,
  createCipheriv,
  createHash,
  diffieHellman,
  generateKeyPairSync,
  publicEncrypt,
  randomBytes,
} from "node:crypto";
import type { SecretBytes } from "@shelter/base";
import type { TeeKey } from "./tee-key.ts";

/** Flattened JSON serialisation of a JWE (RFC 7516 section 7.2.2), without the members Trustee leaves out. */
export interface FlattenedJwe {
  readonly protected: string;
  readonly encrypted_key: string;
  readonly iv: string;
  readonly ciphertext: string;
  readonly tag: string;
}

/**
 * Encrypts a resource to the guest's key. Written here and not by a JOSE library because guest-components
 * rebuild the header they authenticate from its parsed members: `alg`, `enc`, then `epk` with its own
 * members in alphabetical order. Any other order is a JWE they cannot open.
 */
export function encryptTo(key: TeeKey, plain: SecretBytes): FlattenedJwe {
  const cek = randomBytes(32);
  const wrapped = key.alg === "RSA-OAEP-256" ? wrapRsa(key, cek) : wrapEcdh(key, cek);
  const header = Buffer.from(JSON.stringify(wrapped.header)).toString("base64url");
  const iv = randomBytes(12);
  const cipher = createCipheriv("aes-256-gcm", cek, iv);
  cipher.setAAD(Buffer.from(header, "ascii"));
  const ciphertext = Buffer.concat([cipher.update(plain.reveal()), cipher.final()]);
  cek.fill(0);
  return {
    protected: header,
    encrypted_key: wrapped.encryptedKey.toString("base64url"),
    iv: iv.toString("base64url"),
    ciphertext: ciphertext.toString("base64url"),
    tag: cipher.getAuthTag().toString("base64url"),
  };
}

interface Wrapped {
  readonly header: object;
  readonly encryptedKey: Buffer;
}

function wrapRsa(key: TeeKey, cek: Buffer): Wrapped {
  return {
    header: { alg: key.alg, enc: "A256GCM" },
    encryptedKey: publicEncrypt(
      { key: key.key, padding: constants.RSA_PKCS1_OAEP_PADDING, oaepHash: "sha256" },
      cek,
    ),
  };
}

function wrapEcdh(key: TeeKey, cek: Buffer): Wrapped {
  const crv = String(key.jwk["crv"]);
  const ephemeral = generateKeyPairSync("ec", { namedCurve: crv });
  const { x, y } = ephemeral.publicKey.export({ format: "jwk" });
  const shared = diffieHellman({ privateKey: ephemeral.privateKey, publicKey: key.key });
  const kek = concatKdf(shared, key.alg);
  // RFC 3394 key wrap with its default initial value.
  const wrap = createCipheriv("id-aes256-wrap", kek, Buffer.alloc(8, 0xa6));
  return {
    header: { alg: key.alg, enc: "A256GCM", epk: { crv, kty: "EC", x, y } },
    encryptedKey: Buffer.concat([wrap.update(cek), wrap.final()]),
  };
}

/** RFC 7518 section 4.6.2 for a 256-bit key: one round, empty party information. */
function concatKdf(shared: Buffer, algorithm: string): Buffer {
  const field = (bytes: Buffer) => Buffer.concat([u32(bytes.byteLength), bytes]);
  return createHash("sha256")
    .update(u32(1))
    .update(shared)
    .update(field(Buffer.from(algorithm, "ascii")))
    .update(field(Buffer.alloc(0)))
    .update(field(Buffer.alloc(0)))
    .update(u32(256))
    .digest();
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}
