import { VmError } from "./errors.ts";
import { type HostReport, PLATFORMS, type Platform, type PlatformChoice } from "./platform.ts";

/**
 * The platform of a run. `auto` takes the strongest that is truly there; `vtpm` and `none` always come with
 * one line that says what they do not protect, and emulation with another.
 */
export function choosePlatform(requested: Platform | "auto", host: HostReport): PlatformChoice {
  const platform = requested === "auto" ? strongest(host) : requested;
  refuseUnavailable(platform, host);
  const notices: string[] = [];
  if (platform === "vtpm") {
    notices.push(
      "platform vtpm: the boot is measured by a software TPM; this host can read and change the guest's memory and must be trusted",
    );
  }
  if (platform === "none") {
    notices.push(
      "platform none: isolation only, no evidence; this host must be trusted, and a broker releases nothing",
    );
  }
  if (host.accelerator === "tcg") {
    const why = host.parts.find((p) => p.name === "kvm")?.detail ?? "no KVM";
    notices.push(`no usable KVM (${why}): the guest is emulated, which is slow`);
  }
  return { platform, accelerator: host.accelerator, notices };
}

/** Refuses a platform this host cannot run, with the missing pieces by name and the way to get each. */
export function refuseUnavailable(platform: Platform, host: HostReport): void {
  const report = host.platforms.find((p) => p.platform === platform);
  if (report?.available === true) return;
  const parts = host.parts.filter((p) => report?.missing.includes(p.name));
  throw new VmError(
    "PLATFORM_UNAVAILABLE",
    "unavailable",
    `platform ${platform} needs ${parts.map((p) => `${p.name} (${p.detail})`).join(", ")}`,
    { hint: parts.map((p) => `${p.name}: ${p.remedy ?? p.gives}`).join("; ") },
  );
}

function strongest(host: HostReport): Platform {
  for (const platform of PLATFORMS) {
    if (host.platforms.find((p) => p.platform === platform)?.available === true) return platform;
  }
  return "none";
}
