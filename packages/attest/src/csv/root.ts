import { CA_CERTIFICATE_SIZE } from "./certificate.ts";

// Hygon's root key certificate (HRK): self-signed, in use for every CSV chip; the only one public. The parts
// that are not zero, by offset.
const PARTS: readonly (readonly [number, string])[] = [
  [0x000, "010000003ae86a9701355cce333a589de21583d73ae86a9701355cce333a589de21583d7"],
  [0x040, "030000002df6c2921df2f52a501fcd85e73509c8753a5609db02d7f34cf1a4624de162be"],
  [0x08c, "46b91eb4684d74384788beb9100c644a38954e16978b4f581570bb573a12ab3b"],
  [0x0d4, "0d004859474f4e2d5353442d48524b"],
  [0x240, "2965ffee8ce048a0cb8e0b3be6ceb758099433628df7e60847c8be40a4dab6b1"],
  [0x288, "50d76be34fbb2b857c56a351f323d581ab542549c6a1c9b546d3798ede21438e"],
];

/** Hygon's root key certificate, 832 bytes (SHA-256 296efa97…10cd). */
export const HYGON_HRK: Uint8Array = ((): Uint8Array => {
  const bytes = new Uint8Array(CA_CERTIFICATE_SIZE);
  for (const [offset, hex] of PARTS) bytes.set(Buffer.from(hex, "hex"), offset);
  return bytes;
})();
