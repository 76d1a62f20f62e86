import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, readFileSync, writeSync } from "node:fs";
import { SecretBytes } from "@shelter/base";
import { SealError } from "../errors.ts";
import { DISK_KEY_SIZE } from "./encrypt.ts";

/** A fresh disk key. */
export function newDiskKey(): SecretBytes {
  // The halves of an XTS key must differ (FIPS 140-3 IG C.I); random ones do.
  return new SecretBytes(randomBytes(DISK_KEY_SIZE));
}

/** The disk key in a file, which is made with mode 0600 if it is not there. */
export function diskKeyFile(path: string): SecretBytes {
  const key = newDiskKey();
  let fd: number;
  try {
    fd = openSync(path, "wx", 0o600);
  } catch (error) {
    if (!(error instanceof Error && "code" in error && error.code === "EEXIST")) {
      throw new SealError("KEY_MALFORMED", "usage", `cannot make the key file ${path}`, { cause: error });
    }
    return readDiskKey(path);
  }
  try {
    writeSync(fd, key.reveal());
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
  return key;
}

function readDiskKey(path: string): SecretBytes {
  let bytes: Uint8Array;
  try {
    bytes = readFileSync(path);
  } catch (cause) {
    throw new SealError("KEY_MALFORMED", "usage", `cannot read the key file ${path}`, { cause });
  }
  if (bytes.byteLength !== DISK_KEY_SIZE) {
    throw new SealError(
      "KEY_MALFORMED",
      "malformed",
      `${path} has ${bytes.byteLength} bytes, a disk key has ${DISK_KEY_SIZE}`,
    );
  }
  if (Buffer.compare(bytes.subarray(0, 32), bytes.subarray(32)) === 0) {
    throw new SealError(
      "KEY_MALFORMED",
      "malformed",
      `${path} holds the same key twice, which AES-XTS does not allow`,
    );
  }
  return new SecretBytes(bytes);
}
