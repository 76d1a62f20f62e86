import { readFileSync } from "node:fs";
import { ShelterError } from "@shelter/base";

const MAX_INPUT = 16 << 20; // more than any secret, policy or certificate is

/** The bytes of a file, or of standard input for `-`. */
export async function readInput(file: string): Promise<Uint8Array> {
  if (file !== "-") {
    try {
      return readFileSync(file);
    } catch (cause) {
      throw new ShelterError("FILE_UNREADABLE", "usage", `cannot read ${file}`, { cause });
    }
  }
  if (process.stdin.isTTY) process.stderr.write("reading from the terminal; end with Ctrl-D\n");
  const chunks: Buffer[] = [];
  let total = 0;
  for await (const chunk of process.stdin) {
    total += (chunk as Buffer).length;
    if (total > MAX_INPUT)
      throw new ShelterError("INPUT_TOO_LARGE", "usage", `standard input has more than ${MAX_INPUT} bytes`);
    chunks.push(chunk as Buffer);
  }
  return Buffer.concat(chunks);
}
