import { deepEqual, equal, throws } from "node:assert/strict";
import { test } from "node:test";
import { withoutSignature } from "../src/initrd/modules.ts";

/** As scripts/sign-file.c of Linux appends it: module, PKCS#7, struct module_signature, magic. */
function signed(module: Buffer, signature: Buffer, length = signature.length): Buffer {
  const record = Buffer.alloc(12);
  record[2] = 2; // PKEY_ID_PKCS7
  record.writeUInt32BE(length, 8);
  return Buffer.concat([module, signature, record, Buffer.from("~Module signature appended~\n")]);
}

test("a module loses the signature that was appended to it and nothing else", () => {
  const module = Buffer.from("\x7fELF and the rest of it");
  deepEqual(Buffer.from(withoutSignature(signed(module, Buffer.alloc(700, 0x30)), "m.ko")), module);
  equal(withoutSignature(module, "m.ko"), module);
  const almost = Buffer.concat([module, Buffer.from("~Module signature appended~")]);
  equal(withoutSignature(almost, "m.ko"), almost);
});

test("a signature longer than its module is refused", () => {
  const module = Buffer.from("\x7fELF");
  for (const length of [4 + 700, 0xffffffff]) {
    throws(() => withoutSignature(signed(module, Buffer.alloc(700), length), "m.ko"), {
      message: "m.ko: its signature is longer than the module",
    });
  }
});
