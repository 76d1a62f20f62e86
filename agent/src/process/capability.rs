//! Capabilities: what the manifest grants, and nothing beside it.

use std::io;

use nix::errno::Errno;

/// In the order of linux/capability.h.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
/// _LINUX_CAPABILITY_VERSION_3
const VERSION: u32 = 0x2008_0522;

/// A set of capabilities.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities(u64);

impl Capabilities {
    /// Parses `CAP_…` names; gives back the first that is none.
    pub fn parse(names: &[String]) -> Result<Self, String> {
        let mut set = 0;
        for name in names {
            let known = name.strip_prefix("CAP_").and_then(|n| NAMES.iter().position(|k| *k == n));
            set |= 1 << known.ok_or_else(|| name.clone())?;
        }
        Ok(Self(set))
    }

    /// Whether a capability is in the set, by its name without `CAP_`.
    pub fn has(self, name: &str) -> bool {
        NAMES.iter().position(|k| *k == name).is_some_and(|bit| self.0 & (1 << bit) != 0)
    }

    /// Shrinks the bounding set of this process: nothing it ever executes gains more.
    pub fn bound(self) -> io::Result<()> {
        for bit in 0..64u64 {
            // SAFETY: prctl with integers only.
            let there = unsafe { libc::prctl(libc::PR_CAPBSET_READ, bit, 0, 0, 0) };
            if there < 0 {
                break;
            }
            if self.0 & (1 << bit) == 0 {
                // SAFETY: as above.
                check(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, bit, 0, 0, 0) })?;
            }
        }
        Ok(())
    }

    /// Makes this set what the process has and keeps; root keeps it over an exec, other users start with none.
    pub fn apply(self, root: bool) -> io::Result<()> {
        let set = if root { self.0 } else { 0 };
        let (low, high) = (set as u32, (set >> 32) as u32);
        let header = [VERSION, 0];
        // effective, permitted, inheritable; low words, then high words.
        let data = [low, low, 0, high, high, 0];
        // SAFETY: prctl with integers only.
        check(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
        // SAFETY: capset reads a header of 8 and data of 24 bytes, as these arrays are.
        let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
        check(result as i32)
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(Errno::last().into()) } else { Ok(()) }
}
