import type { Session } from "@shelter/guest";
import type { InstanceConfig } from "./config.ts";
import { VmError } from "./errors.ts";
import type { Accelerator } from "./platform.ts";
import { cpuSeconds } from "./process-mark.ts";

/** Seconds a boot may go on without a new step. */
const LIMIT: Readonly<Record<Accelerator, number>> = { kvm: 30, tcg: 90 };

/** A machine that used less than this share of a CPU lately is waiting, not booting. */
const IDLE_SHARE = 0.05;
/** Seconds that count as lately. */
const IDLE_SPAN = 15;

/** What the decision rests on, so that it can be tested without a clock. */
export interface BootSample {
  /** Seconds. */
  readonly now: number;
  /** CPU seconds the machine has used. */
  readonly cpu: number;
}

/**
 * Decides when a boot hangs. A limit in wall-clock time alone would end healthy guests on a busy host, so the
 * limit counts the machine's own CPU time too; only a machine that neither computes nor advances is given up
 * at the limit itself. A limit the person gave is taken as it is.
 */
export class BootClock {
  readonly #limit: number;
  readonly #strict: boolean;
  #from: BootSample;
  #recent: BootSample[] = [];

  constructor(accelerator: Accelerator, given: number | null, start: BootSample) {
    this.#limit = given ?? LIMIT[accelerator];
    this.#strict = given !== null;
    this.#from = start;
  }

  get limit(): number {
    return this.#limit;
  }

  /** A step was reported. A strict limit covers the whole boot and is not begun anew. */
  progress(sample: BootSample): void {
    if (!this.#strict) this.#from = sample;
  }

  /** Whether the boot hangs, judged by a sample about every second. */
  hangs(sample: BootSample): boolean {
    this.#recent.push(sample);
    while (this.#recent.length > 2 && sample.now - (this.#recent[1] as BootSample).now >= IDLE_SPAN) {
      this.#recent.shift();
    }
    if (sample.now - this.#from.now < this.#limit) return false;
    if (this.#strict || sample.cpu - this.#from.cpu >= this.#limit) return true;
    const first = this.#recent[0] as BootSample;
    const span = sample.now - first.now;
    return span >= IDLE_SPAN && (sample.cpu - first.cpu) / span < IDLE_SHARE;
  }
}

/** A sample of a running machine. */
export function sampleMachine(pid: number): BootSample {
  return { now: performance.now() / 1000, cpu: cpuSeconds(pid) };
}

/** Milliseconds between two looks at a booting machine. */
const LOOK = 1000;

/** Looks at a booting machine until its main process runs; reports once when it hangs. Returns how to stop looking. */
export function watchBoot(
  session: Session,
  pid: number,
  config: Pick<InstanceConfig, "accelerator" | "bootTimeout">,
  onHang: (error: VmError) => void,
): () => void {
  const clock = new BootClock(config.accelerator, config.bootTimeout, sampleMachine(pid));
  let hello = false;
  let seen: string | undefined;
  const timer = setInterval(() => {
    const sample = sampleMachine(pid);
    const at = hello ? (session.lastStep ?? "hello") : undefined;
    if (at !== seen) clock.progress(sample);
    seen = at;
    if (!clock.hangs(sample)) return;
    clearInterval(timer);
    const where = seen === undefined ? "before its agent said hello" : `after step ${seen}`;
    onHang(
      new VmError("BOOT_TIMEOUT", "unavailable", `the guest hangs ${where}; given up after ${clock.limit} s`),
    );
  }, LOOK);
  const stop = (): void => clearInterval(timer);
  session.hello.then(() => {
    hello = true;
  }, stop);
  session.main.started.then(stop, stop);
  return stop;
}
