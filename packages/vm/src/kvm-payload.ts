/** Size of the firmware image the payload is. */
const SIZE = 0x10000;

/** `kvm-payload.S` assembled: `as kvm-payload.S -o p.o && ld -Ttext 0 --oformat binary -o p.bin p.o`. */
const CODE =
  "fab800f08ed831c08ec0bf0010b90018f3ab26c7060010032026c7060020033026c70600308300660f0116c00066b800" +
  "1000000f22d866b8200600000f22e066b9800000c00f32660d000100000f3066b8030000800f22c066ea60000f000800" +
  "b8100000008ed88ed048c7c40070000048b8010000000100000066480f6ec0660fd4c066480f7ec348b9020000000200" +
  "00004839d97504b001eb02b00266baf400eef4ebfd8d74000000000000000000ffff0000009baf00ffff00000093cf00" +
  "1700a8000f00";

/** Far jump at the reset vector to F000:0000. */
const RESET = "ea000000f0";

/** Exit status of QEMU after the payload has reported success: (1 << 1) | 1. */
export const PAYLOAD_STATUS = 3;

/** Firmware that enters long mode, uses SSE2 and reports through the debug-exit port. */
export function kvmPayload(): Buffer {
  const image = Buffer.alloc(SIZE);
  image.set(Buffer.from(CODE, "hex"), 0);
  image.set(Buffer.from(RESET, "hex"), SIZE - 16);
  return image;
}
