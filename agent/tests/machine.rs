//! The command line, capabilities, the system call filter, words for a terminal.

#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

use shelter_agent::failure::escape;
use shelter_agent::machine::cmdline::{Cmdline, CmdlineError};
use shelter_agent::process::capability::Capabilities;
use shelter_agent::process::seccomp;

const FIXED: &str = "quiet panic=-1 loglevel=1 console=null cryptomgr.notests";

fn digest(c: char) -> String {
    c.to_string().repeat(64)
}

#[test]
fn the_sealed_command_line_is_taken() {
    let (m, r) = (digest('a'), digest('0'));
    let parse = |text: String| Cmdline::parse(&text);
    let disk = Cmdline { manifest: m.clone(), root: Some(r.clone()) };
    assert_eq!(parse(format!("{FIXED} shelter.manifest={m} shelter.root={r}\n")), Ok(disk));
    let memory = Cmdline { manifest: m.clone(), root: None };
    assert_eq!(parse(format!("{FIXED} shelter.manifest={m} initrd=initrd\n")), Ok(memory));
}

#[test]
fn anything_else_on_the_command_line_is_refused() {
    let (m, r) = (digest('a'), digest('0'));
    for extra in ["init=/bin/sh", "rdinit=/x", "console=ttyS0", "dm_verity.x=1", "--", "initrd=other", " "] {
        let text = format!("{FIXED} shelter.manifest={m} shelter.root={r} {extra}");
        assert!(matches!(Cmdline::parse(&text), Err(CmdlineError::Unknown(_))), "{extra}");
        assert!(Cmdline::parse(&format!("{extra} {FIXED} shelter.manifest={m}")).is_err(), "{extra}");
        assert!(Cmdline::parse(&format!("{FIXED} {extra} shelter.manifest={m}")).is_err(), "{extra}");
    }
    for manifest in [digest('A'), digest('g'), "a".repeat(63), "a".repeat(65), String::new()] {
        let text = format!("{FIXED} shelter.manifest={manifest}");
        assert_eq!(Cmdline::parse(&text), Err(CmdlineError::Digest("shelter.manifest")));
    }
    assert_eq!(Cmdline::parse(FIXED), Err(CmdlineError::Missing("shelter.manifest")));
    assert_eq!(Cmdline::parse(""), Err(CmdlineError::Missing("quiet")));
}

#[test]
fn capabilities_have_the_kernels_names() {
    let names = |list: &[&str]| Capabilities::parse(&list.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
    assert!(names(&["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]).unwrap().has("CHECKPOINT_RESTORE"));
    assert!(!names(&["CAP_CHOWN"]).unwrap().has("SYS_ADMIN"));
    assert_eq!(names(&["CAP_CHOWN", "CAP_ALL"]), Err("CAP_ALL".to_owned()));
    assert_eq!(names(&["CHOWN"]), Err("CHOWN".to_owned()));
    // The numbers of linux/capability.h, seen as a mask in /proc.
    let mask = format!("{:?}", names(&["CAP_SYS_ADMIN", "CAP_BPF"]).unwrap());
    assert_eq!(mask, format!("Capabilities({})", (1u64 << 21) | (1u64 << 39)));
}

#[test]
fn words_of_strangers_cannot_move_a_cursor() {
    assert_eq!(escape("a\u{1b}[2Jb\r\n\u{202e}c\u{9b}ü\"'\\"), "a\\u{1b}[2Jb\\r\\n\\u{202e}c\\u{9b}ü\"'\\");
}

/// Runs calls in a child under the filter; what each gave: 0 or its errno.
fn under_filter(granted: &[&str], calls: &[(i64, [usize; 3])]) -> Vec<i32> {
    let granted = Capabilities::parse(&granted.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>()).unwrap();
    let filter = seccomp::filter(granted);
    let mut pipe = [0; 2];
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    let child = unsafe { libc::fork() };
    if child == 0 {
        unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
        let applied = seccomp::apply(&filter).is_ok();
        for (number, [a, b, c]) in calls {
            let result = unsafe { libc::syscall(*number, *a, *b, *c) };
            let errno = if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(-1) } else { 0 };
            let word = if applied { errno } else { -1 };
            unsafe { libc::write(pipe[1], word.to_ne_bytes().as_ptr().cast(), 4) };
        }
        unsafe { libc::_exit(0) };
    }
    unsafe { libc::close(pipe[1]) };
    let mut results = Vec::new();
    let mut word = [0; 4];
    while unsafe { libc::read(pipe[0], word.as_mut_ptr().cast(), 4) } == 4 {
        results.push(i32::from_ne_bytes(word));
    }
    unsafe {
        libc::close(pipe[0]);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
    assert_eq!(results.len(), calls.len(), "the child was killed");
    results
}

#[test]
fn the_kernel_refuses_what_the_filter_names() {
    let none = [0; 3];
    let forbidden = [
        (libc::SYS_init_module, none),
        (libc::SYS_finit_module, none),
        (libc::SYS_kexec_load, none),
        (libc::SYS_bpf, none),
        (libc::SYS_mount, none),
        (libc::SYS_umount2, none),
        (libc::SYS_pivot_root, none),
        (libc::SYS_reboot, none),
        (libc::SYS_swapon, none),
        (libc::SYS_keyctl, none),
        (libc::SYS_userfaultfd, none),
        (libc::SYS_perf_event_open, none),
        (libc::SYS_open_by_handle_at, none),
        (libc::SYS_setns, none),
        (libc::SYS_io_uring_setup, none),
        (libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0]),
        (libc::SYS_unshare, [libc::CLONE_NEWNS as usize, 0, 0]),
        (libc::SYS_clone, [libc::CLONE_NEWUSER as usize | libc::SIGCHLD as usize, 0, 0]),
        (libc::SYS_socket, [libc::AF_VSOCK as usize, libc::SOCK_STREAM as usize, 0]),
        (libc::SYS_ioctl, [0, libc::TIOCSTI as usize, 0]),
        // The kernel looks at the low half of an ioctl's code, and so does the filter.
        (libc::SYS_ioctl, [0, libc::TIOCSTI as usize | 1 << 32, 0]),
    ];
    assert_eq!(under_filter(&[], &forbidden), vec![libc::EPERM; forbidden.len()]);
    let unknown = [(libc::SYS_clone3, none), (0x4000_0000 + 39, none), (451, none), (100_000, none)];
    assert_eq!(under_filter(&[], &unknown), vec![libc::ENOSYS; unknown.len()]);
}

#[test]
fn the_kernel_allows_what_programs_need() {
    let allowed = [
        (libc::SYS_getpid, [0; 3]),
        (libc::SYS_unshare, [0; 3]),
        (libc::SYS_unshare, [libc::CLONE_FILES as usize, 0, 0]),
        (libc::SYS_socket, [libc::AF_INET as usize, libc::SOCK_STREAM as usize, 0]),
        (libc::SYS_socket, [libc::AF_UNIX as usize, libc::SOCK_STREAM as usize, 0]),
    ];
    assert_eq!(under_filter(&[], &allowed), vec![0; allowed.len()]);
    // With the capability the filter lets pass, and the call fails by its own means.
    let guarded = [(libc::SYS_mount, [0; 3]), (libc::SYS_setns, [usize::MAX, 0, 0])];
    for errno in under_filter(&["CAP_SYS_ADMIN"], &guarded) {
        assert!([libc::EFAULT, libc::EINVAL, libc::EBADF].contains(&errno), "{errno}");
    }
    // Not even then a user namespace.
    let user = [(libc::SYS_unshare, [libc::CLONE_NEWUSER as usize, 0, 0])];
    assert_eq!(under_filter(&["CAP_SYS_ADMIN"], &user), [libc::EPERM]);
}
