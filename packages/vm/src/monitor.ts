import type { Socket } from "node:net";

/** Why QEMU says a machine stopped (QMP event SHUTDOWN), and whether its kernel panicked. */
export interface MachineStop {
  readonly reason: string;
  readonly panicked: boolean;
}

/** Longest line QEMU may send; its events are far shorter. */
const MAX_LINE = 65536;

/** The machine's QMP connection, used to learn why it stopped. QEMU runs as we do and is not trusted more than that. */
export class Monitor {
  #stop: MachineStop | null = null;
  #panicked = false;
  #rest = "";

  constructor(socket: Socket) {
    socket.setEncoding("utf8");
    socket.on("error", () => {});
    socket.on("data", (text: string) => {
      this.#rest += text;
      for (let end = this.#rest.indexOf("\n"); end >= 0; end = this.#rest.indexOf("\n")) {
        this.#line(this.#rest.slice(0, end));
        this.#rest = this.#rest.slice(end + 1);
      }
      if (this.#rest.length > MAX_LINE) socket.destroy();
    });
    socket.write('{"execute":"qmp_capabilities"}\n');
  }

  /** Null while the machine runs, or when it died without a word. */
  get stopped(): MachineStop | null {
    return this.#stop;
  }

  #line(line: string): void {
    let message: { event?: unknown; data?: { reason?: unknown } };
    try {
      message = JSON.parse(line) as typeof message;
    } catch {
      return;
    }
    if (message.event === "GUEST_PANICKED") this.#panicked = true;
    if (message.event === "SHUTDOWN") {
      const reason = message.data?.reason;
      this.#stop ??= { reason: typeof reason === "string" ? reason : "unknown", panicked: this.#panicked };
    }
  }
}
