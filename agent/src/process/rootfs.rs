//! Turns `/root` into the container's whole world. Runs as process 1 of the container's namespaces.

use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown, symlink};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::{chdir, chroot, fchdir, sethostname};

use super::container::{Plan, SecretFile};
use super::files::{make_directory, make_target, replace_file};
use crate::protocol::message::MountPoint;
use crate::root::ROOT;

const STRICT: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Hidden behind an empty directory or `/dev/null`.
const MASKED: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kmsg",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/class/tpm",
    "/proc/kallsyms",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn context<T, E: Display>(result: Result<T, E>, what: impl FnOnce() -> String) -> Result<T, String> {
    result.map_err(|e| format!("{}: {e}", what()))
}

/// Builds the root and moves into it.
pub fn build(plan: &Plan) -> Result<(), String> {
    context(mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>), || {
        "cannot make mounts private".to_owned()
    })?;
    context(sethostname(&plan.hostname), || "cannot set the host name".to_owned())?;
    let devices = open_devices()?;
    let secrets = write_secrets(&plan.secrets)?;
    let outside = context(open_path("/"), || "cannot open /".to_owned())?;
    context(chdir(ROOT), || format!("cannot enter {ROOT}"))?;
    context(mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>), || "cannot move the root".to_owned())?;
    context(chroot("."), || "cannot change the root".to_owned())?;
    context(chdir("/"), || "cannot enter the root".to_owned())?;

    place("proc", "/proc", "proc", STRICT, None)?;
    place("sysfs", "/sys", "sysfs", STRICT | MsFlags::MS_RDONLY, None)?;
    place("tmpfs", "/dev", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some("mode=755,size=65536k"))?;
    place(
        "devpts",
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
        Some("newinstance,ptmxmode=0666,mode=0620,gid=5"),
    )?;
    place("shm", "/dev/shm", "tmpfs", STRICT, Some("mode=1777,size=65536k"))?;
    place("mqueue", "/dev/mqueue", "mqueue", STRICT, None)?;
    for (name, device) in DEVICES.iter().zip(&devices) {
        bind(device, &format!("/dev/{name}"), true, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)?;
    }
    for (name, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        context(symlink(target, format!("/dev/{name}")), || format!("cannot link /dev/{name}"))?;
    }
    write_names(plan)?;
    for (secret, source) in plan.secrets.iter().zip(&secrets) {
        bind(source, &secret.path, true, STRICT | MsFlags::MS_RDONLY)?;
    }
    // Below the container's own settings, so after everything that writes there.
    context(fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"), || "cannot open low ports".to_owned())?;
    context(fs::write("/proc/sys/user/max_user_namespaces", "0"), || "cannot close user namespaces".to_owned())?;
    if plan.shut {
        remount_root_read_only()?;
    }
    seal_kernel_files(&devices)?;
    leave(&outside);
    let mut mounts: Vec<_> = plan.mounts.iter().collect();
    mounts.sort_by(|a, b| a.0.target.cmp(&b.0.target));
    mounts.into_iter().try_for_each(|(point, device)| mount_host(point, device))
}

fn open_path(path: &str) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_CLOEXEC).open(path)
}

fn open_devices() -> Result<Vec<File>, String> {
    DEVICES
        .iter()
        .map(|name| context(open_path(&format!("/dev/{name}")), || format!("cannot open /dev/{name}")))
        .collect()
}

/// Writes the secret files to a file system of their own, which nothing but their binds will reach.
fn write_secrets(secrets: &[SecretFile]) -> Result<Vec<File>, String> {
    if secrets.is_empty() {
        return Ok(Vec::new());
    }
    context(fs::create_dir_all("/secrets"), || "cannot make /secrets".to_owned())?;
    context(mount(Some("secrets"), "/secrets", Some("tmpfs"), STRICT, Some("mode=0700,size=256m")), || {
        "cannot mount the secrets".to_owned()
    })?;
    let mut files = Vec::new();
    for (number, secret) in secrets.iter().enumerate() {
        let path = format!("/secrets/{number}");
        let write = || -> io::Result<File> {
            replace_file(&path, &secret.content, 0o600)?;
            chown(&path, Some(secret.uid), Some(secret.gid))?;
            fs::set_permissions(&path, fs::Permissions::from_mode(secret.mode))?;
            open_path(&path)
        };
        files.push(context(write(), || format!("cannot write the secret for {}", secret.path))?);
    }
    Ok(files)
}

fn place(source: &str, target: &str, kind: &str, flags: MsFlags, data: Option<&str>) -> Result<(), String> {
    context(make_directory(target), || format!("cannot make {target}"))?;
    context(mount(Some(source), target, Some(kind), flags, data), || format!("cannot mount {target}"))
}

/// Binds an opened file or directory onto a path, then gives the bind its own flags.
fn bind(source: &File, target: &str, file: bool, flags: MsFlags) -> Result<(), String> {
    context(make_target(target, file), || format!("cannot make {target}"))?;
    let from = format!("/proc/self/fd/{}", source.as_raw_fd());
    let again = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags;
    context(mount(Some(from.as_str()), target, None::<&str>, MsFlags::MS_BIND, None::<&str>), || {
        format!("cannot mount {target}")
    })?;
    context(mount(None::<&str>, target, None::<&str>, again, None::<&str>), || format!("cannot protect {target}"))
}

/// Takes the guest's own mounts out of this namespace.
fn leave(outside: &File) {
    if fchdir(outside).is_ok() {
        for mount in ["dev", "sys", "proc", "lower", "upper", "secrets"] {
            // Not every guest has each of them; out of reach they are anyway.
            let _ = umount2(mount, MntFlags::MNT_DETACH);
        }
    }
    let _ = chdir("/");
}

fn write_names(plan: &Plan) -> Result<(), String> {
    let name = &plan.hostname;
    let hosts = format!("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.0.1\t{name}\n");
    let mut files = vec![("/etc/hostname", format!("{name}\n")), ("/etc/hosts", hosts)];
    if let Some(resolver) = &plan.resolver {
        files.push(("/etc/resolv.conf", format!("nameserver {resolver}\n")));
    }
    for (path, text) in files {
        context(replace_file(path, text.as_bytes(), 0o644), || format!("cannot write {path}"))?;
    }
    Ok(())
}

fn remount_root_read_only() -> Result<(), String> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
    context(mount(None::<&str>, "/", None::<&str>, flags, None::<&str>), || "cannot protect the root".to_owned())
}

/// Hides or protects what the kernel shows of the machine.
fn seal_kernel_files(devices: &[File]) -> Result<(), String> {
    for path in READ_ONLY {
        if let Ok(file) = open_path(path) {
            let is_file = file.metadata().is_ok_and(|m| !m.is_dir());
            bind(&file, path, is_file, STRICT | MsFlags::MS_RDONLY)?;
        }
    }
    for path in MASKED {
        let Ok(metadata) = fs::metadata(path) else {
            continue;
        };
        if metadata.is_dir() {
            context(mount(Some("tmpfs"), path, Some("tmpfs"), STRICT | MsFlags::MS_RDONLY, Some("size=0k")), || {
                format!("cannot hide {path}")
            })?;
        } else if let Some(null) = devices.first() {
            bind(null, path, true, MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC)?;
        }
    }
    Ok(())
}

/// Mounts a directory or file of the host over FUSE. The host is not trusted with devices or set-uid files.
fn mount_host(point: &MountPoint, device: &OwnedFd) -> Result<(), String> {
    let target = point.target.as_str();
    context(make_target(target, point.file), || format!("cannot make {target}"))?;
    let mode = if point.file { "100000" } else { "40000" };
    let options =
        format!("fd={},rootmode={mode},user_id=0,group_id=0,allow_other,default_permissions", device.as_raw_fd());
    let mut flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    if point.read_only {
        flags |= MsFlags::MS_RDONLY;
    }
    context(mount(Some("shelter"), target, Some("fuse"), flags, Some(options.as_str())), || {
        format!("cannot mount {target}")
    })
}
