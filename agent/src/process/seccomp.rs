//! The system call filter: what a container has no business with fails with EPERM, what the filter cannot
//! judge with ENOSYS. Another architecture's calls are not known here and are all refused.

use std::io;

use nix::errno::Errno;

use super::capability::Capabilities;

/// The highest system call of the guest's kernel (6.1: set_mempolicy_home_node).
const HIGHEST: u32 = 450;
const AUDIT_ARCH_X86_64: u32 = 0xC000_003E;
/// linux/seccomp.h
const RET_ALLOW: u32 = 0x7FFF_0000;
const RET_ERRNO: u32 = 0x0005_0000;
/// Offsets in struct seccomp_data.
const NR: u32 = 0;
const ARCH: u32 = 4;
const ARG0: u32 = 16;
const ARG1: u32 = 24;
/// linux/bpf_common.h
const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_ANY: u16 = 0x45;
const RETURN: u16 = 0x06;

const CLONE_NEWUSER: u32 = 0x1000_0000;
/// Every namespace flag of clone and unshare.
const CLONE_NEW: u32 = 0x7E02_0080;
const TIOCSTI: u32 = 0x5412;
const TIOCLINUX: u32 = 0x541C;
const AF_VSOCK: u32 = 40;

/// Refused to everyone.
const NEVER: [i64; 23] = [
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_userfaultfd,
    libc::SYS_nfsservctl,
    libc::SYS_acct,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
    libc::SYS_modify_ldt,
    libc::SYS_ioperm,
    libc::SYS_iopl,
    libc::SYS_io_uring_setup,
    libc::SYS_lookup_dcookie,
];

/// Refused without the capability beside it.
const GUARDED: [(i64, &str); 23] = [
    (libc::SYS_mount, "SYS_ADMIN"),
    (libc::SYS_umount2, "SYS_ADMIN"),
    (libc::SYS_pivot_root, "SYS_ADMIN"),
    (libc::SYS_fsopen, "SYS_ADMIN"),
    (libc::SYS_fsconfig, "SYS_ADMIN"),
    (libc::SYS_fsmount, "SYS_ADMIN"),
    (libc::SYS_fspick, "SYS_ADMIN"),
    (libc::SYS_open_tree, "SYS_ADMIN"),
    (libc::SYS_move_mount, "SYS_ADMIN"),
    (libc::SYS_mount_setattr, "SYS_ADMIN"),
    (libc::SYS_setns, "SYS_ADMIN"),
    (libc::SYS_quotactl, "SYS_ADMIN"),
    (libc::SYS_quotactl_fd, "SYS_ADMIN"),
    (libc::SYS_fanotify_init, "SYS_ADMIN"),
    (libc::SYS_bpf, "BPF"),
    (libc::SYS_perf_event_open, "PERFMON"),
    (libc::SYS_open_by_handle_at, "DAC_READ_SEARCH"),
    (libc::SYS_chroot, "SYS_CHROOT"),
    (libc::SYS_settimeofday, "SYS_TIME"),
    (libc::SYS_clock_settime, "SYS_TIME"),
    (libc::SYS_syslog, "SYSLOG"),
    (libc::SYS_vhangup, "SYS_TTY_CONFIG"),
    (libc::SYS_kcmp, "SYS_PTRACE"),
];

/// One instruction of classic BPF.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    code: u16,
    jt: u8,
    jf: u8,
    k: u32,
}

fn op(code: u16, k: u32, jt: u8, jf: u8) -> Instruction {
    Instruction { code, jt, jf, k }
}

fn errno(errno: i32) -> Instruction {
    op(RETURN, RET_ERRNO | errno as u32, 0, 0)
}

/// The filter for a process that holds these capabilities.
pub fn filter(granted: Capabilities) -> Vec<Instruction> {
    let mut code = vec![
        op(LOAD, ARCH, 0, 0),
        op(JUMP_EQUAL, AUDIT_ARCH_X86_64, 1, 0),
        errno(libc::ENOSYS),
        op(LOAD, NR, 0, 0),
        // Past the kernel's last call, and all of the x32 ones.
        op(JUMP_GREATER, HIGHEST, 0, 1),
        errno(libc::ENOSYS),
    ];
    let mut refuse = |number: i64| {
        code.push(op(JUMP_EQUAL, number as u32, 0, 1));
        code.push(errno(libc::EPERM));
    };
    NEVER.iter().for_each(|number| refuse(*number));
    let admin = granted.has("SYS_ADMIN");
    for (number, capability) in GUARDED {
        // What was split off from CAP_SYS_ADMIN still comes with it.
        let split = admin && matches!(capability, "BPF" | "PERFMON" | "SYSLOG");
        if !granted.has(capability) && !split {
            refuse(number);
        }
    }
    // A user namespace hands out every capability within it, so it is nobody's without the right.
    let namespaces = if admin { CLONE_NEWUSER } else { CLONE_NEW };
    for number in [libc::SYS_clone, libc::SYS_unshare] {
        code.push(op(JUMP_EQUAL, number as u32, 0, 4));
        code.push(op(LOAD, ARG0, 0, 0));
        code.push(op(JUMP_ANY, namespaces, 0, 1));
        code.push(errno(libc::EPERM));
        code.push(op(RETURN, RET_ALLOW, 0, 0));
    }
    // clone3 hides its flags behind a pointer; libraries fall back to clone.
    code.push(op(JUMP_EQUAL, libc::SYS_clone3 as u32, 0, 1));
    code.push(errno(libc::ENOSYS));
    // A socket to the host's side of vsock would be a network nobody granted.
    code.push(op(JUMP_EQUAL, libc::SYS_socket as u32, 0, 4));
    code.push(op(LOAD, ARG0, 0, 0));
    code.push(op(JUMP_EQUAL, AF_VSOCK, 0, 1));
    code.push(errno(libc::EPERM));
    code.push(op(RETURN, RET_ALLOW, 0, 0));
    // Typing into somebody else's terminal.
    code.push(op(JUMP_EQUAL, libc::SYS_ioctl as u32, 0, 4));
    code.push(op(LOAD, ARG1, 0, 0));
    code.push(op(JUMP_EQUAL, TIOCSTI, 1, 0));
    code.push(op(JUMP_EQUAL, TIOCLINUX, 0, 1));
    code.push(errno(libc::EPERM));
    code.push(op(RETURN, RET_ALLOW, 0, 0));
    code
}

/// Puts a filter on this process and all it starts. Needs no_new_privs.
pub fn apply(code: &[Instruction]) -> io::Result<()> {
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_ptr().cast_mut().cast() };
    // SAFETY: the program points at `len` instructions laid out as struct sock_filter, which outlive the call.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) };
    if result < 0 { Err(Errno::last().into()) } else { Ok(()) }
}
