import type { MountRequest, PortForward, ProcessExit } from "@shelter/guest";
import type { Accelerator, Platform } from "./platform.ts";

/** The sealed image an instance boots. */
export interface BootImage {
  /** `sha256:…` of the sealed image. */
  readonly identity: string;
  /** Name it was asked for by, as `ps` shows it. */
  readonly name: string;
  /** Directory with `kernel`, `initrd`, `manifest.json` and, for shape `disk`, `root.squashfs` and `root.verity`. */
  readonly directory: string;
  readonly shape: "disk" | "initrd";
  readonly cmdline: string;
}

/** Everything about one instance that does not change while it lives. */
export interface InstanceConfig {
  readonly image: BootImage;
  readonly platform: Platform;
  readonly accelerator: Accelerator;
  /** Bytes. */
  readonly memory: number;
  readonly cpus: number;
  /** From the manifest: a network card with user-mode NAT. */
  readonly outbound: boolean;
  /** Demand evidence even if the manifest names no secret. */
  readonly attest: boolean;
  /** The broker requests are relayed to; `ca` is a PEM file trusted for its TLS certificate. */
  readonly broker: { readonly url: string; readonly ca?: string | undefined } | null;
  readonly args: readonly string[] | null;
  readonly env: readonly string[];
  readonly tty: boolean;
  readonly stdin: boolean;
  readonly mounts: readonly MountRequest[];
  readonly ports: readonly PortForward[];
  /** Remove the instance once it has ended. */
  readonly remove: boolean;
  /** Seconds until the agent must have said hello; null for the default of the accelerator. */
  readonly bootTimeout: number | null;
}

/** Where in its life an instance is. `dead` is not stored: it is what `running` is called when its processes are gone. */
export type InstanceState = "created" | "starting" | "running" | "exited";

/** A process of the host, safe against reuse of its number. */
export interface ProcessMark {
  readonly pid: number;
  /** Field 22 of `/proc/PID/stat`. */
  readonly start: string;
}

/** What changes while an instance lives. */
export interface InstanceStatus {
  readonly state: InstanceState;
  /** ISO 8601. */
  readonly startedAt: string | null;
  readonly finishedAt: string | null;
  readonly supervisor: ProcessMark | null;
  readonly qemu: ProcessMark | null;
  /** How the main process ended; null while it runs or when it never did. */
  readonly exit: ProcessExit | null;
  /** Why it ended, where that was not the main process's own doing. */
  readonly error: {
    readonly code: string;
    readonly kind: string;
    readonly message: string;
    readonly hint?: string | undefined;
  } | null;
}

/** An instance as its file on disk tells, checked against the processes that are truly there. */
export interface Instance {
  /** 64 hex digits. */
  readonly id: string;
  readonly name: string;
  readonly directory: string;
  readonly createdAt: string;
  readonly config: InstanceConfig;
  readonly status: InstanceStatus;
}

/** A moment in the life of a run, for `--timings`. */
export interface Timing {
  /** `host` steps: `start` `tpm` `qemu` `hello` `started` `exit` `cleaned`; `guest` steps are the agent's. */
  readonly side: "host" | "guest";
  readonly step: string;
  /** Milliseconds since the run began (host) or since the guest's kernel started (guest). */
  readonly ms: number;
}

/** How a run ended. */
export interface InstanceEnd {
  readonly exit: ProcessExit;
  readonly timings: readonly Timing[];
}

/** What a running instance costs its host, in resident bytes. */
export interface InstanceStats {
  readonly machine: number;
  readonly supervisor: number;
  readonly tpm: number;
  readonly timings: readonly Timing[];
}
