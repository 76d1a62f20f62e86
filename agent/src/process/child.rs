//! Between fork and exec: the child becomes what the manifest says, and nothing more.

use std::convert::Infallible;
use std::ffi::{CString, c_char};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Pid, Uid, chdir, setgroups, setresgid, setresuid, setsid};

use super::capability::Capabilities;
use super::container::c_strings;
use super::files::make_directory;
use super::seccomp::{self, Instruction};
use crate::manifest::User;
use crate::protocol::message::Size;
use crate::session::endpoint::set_size;
use crate::session::launcher::Spec;

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// A longer password file is read no further.
const MAX_PASSWD: u64 = 1024 * 1024;
const SOFT_FILES: u64 = 1024;
const HARD_FILES: u64 = 524_288;
/// The cgroup counts tasks; a limit by user would only be lower.
const MAX_TASKS: u64 = 32_768;

/// Who a process of the container is.
pub struct Identity {
    pub cwd: String,
    pub user: User,
    pub capabilities: Capabilities,
    pub filter: Vec<Instruction>,
}

/// Our ends of a process's pipes.
#[derive(Default)]
pub struct Ours {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    pub pty: Option<OwnedFd>,
}

/// Both ends; the process's own are closed in the agent when this goes.
#[derive(Default)]
pub struct Stdio {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    pub terminal: Option<OwnedFd>,
    pub ours: Ours,
}

/// Why a program does not run: the exit code a shell gives, 0 where our own preparation failed.
struct Stop {
    code: u8,
    reason: String,
}

/// Becomes the program, or says why not and ends.
pub fn run(spec: &Spec, identity: &Identity, container: &OwnedFd, stdio: &Stdio, tell: OwnedFd) -> ! {
    let Err(stop) = become_program(spec, identity, container, stdio);
    let mut message = vec![stop.code];
    message.extend_from_slice(crate::protocol::message::clip(&stop.reason, 4000).as_bytes());
    // Without a reader the exit code alone has to do.
    let _ = File::from(tell).write_all(&message);
    leave(i32::from(stop.code.max(1)))
}

/// Ends a forked child without running anything that belongs to the parent.
pub fn leave(code: i32) -> ! {
    // SAFETY: _exit takes an integer and does not return.
    unsafe { libc::_exit(code) }
}

fn stop<T, E: std::fmt::Display>(result: Result<T, E>, what: &str) -> Result<T, Stop> {
    result.map_err(|e| Stop { code: 0, reason: format!("{what}: {e}") })
}

fn become_program(spec: &Spec, identity: &Identity, container: &OwnedFd, stdio: &Stdio) -> Result<Infallible, Stop> {
    stop(enter_cgroup(), "cannot enter the cgroup")?;
    let namespaces =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWCGROUP;
    stop(setns(container, namespaces), "cannot enter the container")?;
    stop(setsid(), "cannot start a session")?;
    stop(connect_stdio(stdio), "cannot connect standard input and output")?;
    stop(reset_signals(), "cannot reset signals")?;
    stop(set_limits(), "cannot set limits")?;
    umask(Mode::from_bits_truncate(0o022));
    stop(make_directory(&identity.cwd), &format!("cannot make {}", identity.cwd))?;
    stop(chdir(identity.cwd.as_str()), &format!("cannot enter {}", identity.cwd))?;
    let env = environment(spec, identity.user.uid);
    stop(become_user(identity), "cannot become the user")?;
    // SAFETY: close_range with integers; what is open stays usable until the exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    stop(seccomp::apply(&identity.filter), "cannot filter system calls")?;
    Err(execute(&spec.argv, &env))
}

/// Moves this process into the container's cgroup, and makes it one the kernel may kill when memory runs out.
pub fn enter_cgroup() -> io::Result<()> {
    fs::write("/sys/fs/cgroup/container/cgroup.procs", "0")?;
    fs::write("/proc/self/oom_score_adj", "0")
}

fn connect_stdio(stdio: &Stdio) -> io::Result<()> {
    let null: OwnedFd = OpenOptions::new().read(true).write(true).open("/dev/null")?.into();
    if let Some(terminal) = &stdio.terminal {
        // SAFETY: TIOCSCTTY takes an integer.
        check(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
    }
    for (number, theirs) in [(0, &stdio.stdin), (1, &stdio.stdout), (2, &stdio.stderr)] {
        let fd: RawFd = stdio.terminal.as_ref().or(theirs.as_ref()).unwrap_or(&null).as_raw_fd();
        // SAFETY: dup2 of an open descriptor onto 0, 1 or 2, which the agent keeps open and pipes never get.
        check(unsafe { libc::dup2(fd, number) })?;
    }
    Ok(())
}

/// What the agent ignores would stay ignored over an exec.
fn reset_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for ignored in [Signal::SIGPIPE, Signal::SIGINT] {
        // SAFETY: the default action runs no code of ours.
        unsafe { sigaction(ignored, &default) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

fn set_limits() -> nix::Result<()> {
    setrlimit(Resource::RLIMIT_NOFILE, SOFT_FILES, HARD_FILES)?;
    setrlimit(Resource::RLIMIT_NPROC, MAX_TASKS, MAX_TASKS)?;
    setrlimit(Resource::RLIMIT_CORE, 0, libc::RLIM_INFINITY)
}

fn become_user(identity: &Identity) -> io::Result<()> {
    let User { uid, gid, groups } = &identity.user;
    identity.capabilities.bound()?;
    let groups: Vec<Gid> = groups.iter().map(|g| Gid::from_raw(*g)).collect();
    setgroups(&groups)?;
    let (uid, gid) = (Uid::from_raw(*uid), Gid::from_raw(*gid));
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    identity.capabilities.apply(uid.is_root())?;
    // SAFETY: prctl with integers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// The environment as given, and what a container always has where it was not given.
fn environment(spec: &Spec, uid: u32) -> Vec<String> {
    let mut env: Vec<String> = Vec::with_capacity(spec.env.len() + 4);
    for entry in &spec.env {
        set(&mut env, entry.clone());
    }
    let mut add = |name: &str, value: &dyn Fn() -> String| {
        if !env.iter().any(|e| name_of(e) == name) {
            env.push(format!("{name}={}", value()));
        }
    };
    add("PATH", &|| DEFAULT_PATH.to_owned());
    add("HOSTNAME", &|| {
        nix::unistd::gethostname().map_or_else(|_| String::new(), |n| n.to_string_lossy().into_owned())
    });
    add("HOME", &|| home_of(uid).unwrap_or_else(|| "/".to_owned()));
    if spec.tty {
        add("TERM", &|| "xterm".to_owned());
    }
    env
}

fn name_of(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// Sets a variable in its first place.
fn set(env: &mut Vec<String>, entry: String) {
    match env.iter_mut().find(|e| name_of(e) == name_of(&entry)) {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

/// The home directory in the image's `/etc/passwd`.
fn home_of(uid: u32) -> Option<String> {
    let mut text = String::new();
    File::open("/etc/passwd").ok()?.take(MAX_PASSWD).read_to_string(&mut text).ok()?;
    let wanted = uid.to_string();
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.nth(2)? == wanted).then(|| fields.nth(2).unwrap_or("/").to_owned())
    })
}

/// Executes a program, looked for in PATH where its name has no slash. Comes back only with the reason.
fn execute(argv: &[String], env: &[String]) -> Stop {
    let Some(name) = argv.first().filter(|n| !n.is_empty()) else {
        return Stop { code: 127, reason: "there is no program to run".to_owned() };
    };
    let arguments = c_strings(argv);
    let variables = c_strings(env);
    let path = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
    let candidates: Vec<String> = if name.contains('/') {
        vec![name.clone()]
    } else {
        path.split(':').map(|d| if d.is_empty() { format!("./{name}") } else { format!("{d}/{name}") }).collect()
    };
    let mut best = Errno::ENOENT;
    for candidate in candidates {
        match execve(&candidate, &arguments, &variables) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => best = Errno::EACCES,
            other => {
                best = other;
                break;
            }
        }
    }
    let code = if best == Errno::ENOENT { 127 } else { 126 };
    Stop { code, reason: format!("cannot run {name:?}: {}", best.desc().to_lowercase()) }
}

fn execve(path: &str, argv: &[CString], env: &[CString]) -> Errno {
    let Ok(path) = CString::new(path) else {
        return Errno::ENOENT;
    };
    let pointers = |list: &[CString]| -> Vec<*const c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both lists end with a null pointer and their strings outlive the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    Errno::last()
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(Errno::last().into()) } else { Ok(()) }
}

/// Our end of a pipe never makes us wait.
pub fn set_nonblocking(fd: &OwnedFd) {
    // SAFETY: F_SETFL with a plain flag on a descriptor we own.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
}

/// A terminal of the container's own devpts, so that its name is true inside.
pub fn open_terminal(init: Pid, size: Option<Size>) -> io::Result<(OwnedFd, OwnedFd)> {
    let master: OwnedFd = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open(format!("/proc/{init}/root/dev/pts/ptmx"))?
        .into();
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which outlives the call.
    check(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlock) })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags and gives a new descriptor.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    check(slave)?;
    // SAFETY: the call above made this descriptor for us.
    let slave = unsafe { OwnedFd::from_raw_fd(slave) };
    if let Some(size) = size {
        set_size(&master, size);
    }
    Ok((master, slave))
}
