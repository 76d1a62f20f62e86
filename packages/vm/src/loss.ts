import { type GuestError, printable } from "@shelter/guest";
import type { ChildEnd } from "./child.ts";
import { VmError } from "./errors.ts";
import type { MachineStop } from "./monitor.ts";

/** Everything that is known when the connection to a guest ends without a word. */
export interface Loss {
  readonly lost: GuestError;
  /** Null when QEMU still runs. */
  readonly qemu: ChildEnd | null;
  readonly tpmDied: boolean;
  readonly stop: MachineStop | null;
  readonly qemuLog: string;
  /** The end of what the program put out. */
  readonly lastWords: string;
}

/** Turns a lost guest into the reason it was lost, with its last words. */
export function explainLoss(loss: Loss): VmError {
  const where = loss.lost.message.replace(/^the guest was lost /, "");
  const log = printable(loss.qemuLog);
  const words = printable(loss.lastWords).slice(-300);
  const hint = words === "" ? {} : { hint: `its last words: ${words}` };
  const make = (code: "TPM_DIED" | "GUEST_PANIC" | "MACHINE_DIED", message: string): VmError =>
    new VmError(code, "unavailable", message, { cause: loss.lost, ...hint });

  if (loss.tpmDied && loss.stop === null && loss.qemu?.signal == null) {
    return make("TPM_DIED", `the guest's TPM ended ${where}`);
  }
  if (
    loss.stop?.panicked === true ||
    loss.stop?.reason === "guest-panic" ||
    loss.stop?.reason === "guest-reset"
  ) {
    return make("GUEST_PANIC", `the guest's kernel panicked ${where}`);
  }
  if (loss.stop?.reason === "guest-shutdown") {
    return make("GUEST_PANIC", `the guest powered off without saying why, ${where}`);
  }
  if (loss.qemu === null) return make("MACHINE_DIED", `the guest hung up ${where}`);
  const how =
    loss.qemu.signal === null ? `ended with status ${loss.qemu.code}` : `was killed by ${loss.qemu.signal}`;
  return make("MACHINE_DIED", `QEMU ${how} ${where}${log === "" ? "" : `: ${log}`}`);
}
