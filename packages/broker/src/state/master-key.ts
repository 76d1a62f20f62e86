import { createCipheriv, createDecipheriv, hkdfSync, randomBytes } from "node:crypto";
import {
  closeSync,
  existsSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { dirname } from "node:path";
import { BrokerError } from "../errors.ts";

const KEY_BYTES = 32;
const IV_BYTES = 12;
const TAG_BYTES = 16;

/** Seals what the database holds: AES-256-GCM, one key per purpose, bound to a name. */
export class MasterKey {
  readonly #key: Uint8Array;

  constructor(key: Uint8Array) {
    if (key.byteLength !== KEY_BYTES) {
      throw new BrokerError(
        "MASTER_KEY_MALFORMED",
        "malformed",
        `master key has ${key.byteLength} bytes, not 32`,
      );
    }
    this.#key = key;
  }

  /**
   * Reads the key file; creates it when there is none and nothing was ever sealed. A missing key beside
   * existing data is an error: a new one could not open that data.
   */
  static load(path: string, dataExists: boolean): MasterKey {
    if (!existsSync(path)) {
      if (dataExists) {
        throw new BrokerError(
          "MASTER_KEY_MISSING",
          "unavailable",
          `master key ${path} is missing, and the database has data`,
          {
            hint: "put the key file back from its backup; without it the stored secrets cannot be opened",
          },
        );
      }
      writeDurably(path, `${randomBytes(KEY_BYTES).toString("hex")}\n`);
    }
    const mode = statSync(path).mode & 0o777;
    if ((mode & 0o077) !== 0) {
      throw new BrokerError(
        "MASTER_KEY_EXPOSED",
        "refused",
        `master key ${path} has mode ${mode.toString(8).padStart(4, "0")}`,
        {
          hint: `others on this machine may have read it; chmod 600 ${path} if they have not`,
        },
      );
    }
    const hex = readFileSync(path, "utf8").trim();
    if (!/^[0-9a-f]{64}$/.test(hex)) {
      throw new BrokerError("MASTER_KEY_MALFORMED", "malformed", `master key ${path} is not 64 hex digits`);
    }
    return new MasterKey(Buffer.from(hex, "hex"));
  }

  #derive(purpose: string): Uint8Array {
    return new Uint8Array(
      hkdfSync("sha256", this.#key, new Uint8Array(0), `shelter broker ${purpose}`, KEY_BYTES),
    );
  }

  /** A public value that only this key gives, to notice a wrong key before anything is read with it. */
  fingerprint(): string {
    return Buffer.from(this.#derive("fingerprint")).toString("hex").slice(0, 32);
  }

  /** `iv | tag | ciphertext`; `name` must be the same when opening. */
  seal(purpose: string, name: string, plain: Uint8Array): Uint8Array {
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#derive(purpose), iv);
    cipher.setAAD(Buffer.from(name));
    const sealed = Buffer.concat([cipher.update(plain), cipher.final()]);
    return Buffer.concat([iv, cipher.getAuthTag(), sealed]);
  }

  /** What was sealed under this name; anything altered or moved is refused. */
  open(purpose: string, name: string, sealed: Uint8Array): Uint8Array {
    try {
      const decipher = createDecipheriv("aes-256-gcm", this.#derive(purpose), sealed.subarray(0, IV_BYTES), {
        authTagLength: TAG_BYTES,
      });
      decipher.setAAD(Buffer.from(name));
      decipher.setAuthTag(sealed.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
      return Buffer.concat([decipher.update(sealed.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]);
    } catch (cause) {
      throw new BrokerError(
        "RESOURCE_CORRUPT",
        "unavailable",
        `${purpose} ${name} in the database was altered`,
        { cause },
      );
    }
  }
}

/** The file appears whole or not at all, and of two processes starting at once only one makes it. */
function writeDurably(path: string, content: string): void {
  const temporary = `${path}.${process.pid}.${randomBytes(4).toString("hex")}.tmp`;
  const fd = openSync(temporary, "wx", 0o600);
  try {
    writeSync(fd, content);
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  try {
    linkSync(temporary, path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  } finally {
    unlinkSync(temporary);
  }
  const directory = openSync(dirname(path), "r");
  try {
    fsyncSync(directory);
  } finally {
    closeSync(directory);
  }
}
