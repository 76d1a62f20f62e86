//! What process 1 asks of the kernel before and after everything else.

use std::fs;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot, set_cad_enabled};

use crate::failure::Failure;

/// Mounts the kernel's own file systems.
pub fn mount_basics() -> Result<(), Failure> {
    let strict = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let device = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    for (kind, target, flags) in [
        ("proc", "/proc", strict),
        ("sysfs", "/sys", strict),
        ("devtmpfs", "/dev", device),
        ("securityfs", "/sys/kernel/security", strict),
        ("cgroup2", "/sys/fs/cgroup", strict),
    ] {
        attach(kind, target, kind, flags, None)?;
    }
    // Ctrl-Alt-Del of a virtual keyboard asks us (SIGINT, ignored) and no longer reboots by itself.
    set_cad_enabled(false).map_err(|e| Failure::guest(format_args!("cannot disable ctrl-alt-del: {e}")))
}

/// Mounts one file system, making its directory first where that is missing.
pub fn attach(source: &str, target: &str, kind: &str, flags: MsFlags, data: Option<&str>) -> Result<(), Failure> {
    if !Path::new(target).is_dir() {
        fs::create_dir_all(target).map_err(|e| Failure::guest(format_args!("cannot make {target}: {e}")))?;
    }
    mount(Some(source), target, Some(kind), flags, data)
        .map_err(|e| Failure::guest(format_args!("cannot mount {kind} at {target}: {}", e.desc())))
}

/// Turns the machine off; returns only where that is not allowed.
pub fn power_off() {
    let Err(errno) = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("shelter-agent: cannot power off: {errno}");
}
