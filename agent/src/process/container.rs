//! The namespaces and what starts in them.

use std::ffi::CString;
use std::fmt::Display;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork, pipe2, read};
use zeroize::Zeroizing;

use super::capability::Capabilities;
use super::child::{self, Identity, Stdio};
use super::rootfs;
use super::seccomp;
use crate::failure::Failure;
use crate::manifest::User;
use crate::protocol::message::MountPoint;
use crate::root::OpenRoot;
use crate::session::launcher::{Launched, Launcher, Spec};

/// Tasks in the container at one time: one for so much memory, so that the kernel's own share leaves room.
const MEMORY_PER_TASK: u64 = 128 * 1024;
const MIN_TASKS: u64 = 512;
const MAX_TASKS: u64 = 32_768;
const CGROUP: &str = "/sys/fs/cgroup/container";
/// Room for output while the host is slow.
const PIPE_SIZE: i32 = 256 * 1024;

/// A secret that goes to a file.
pub struct SecretFile {
    pub path: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub content: Zeroizing<Vec<u8>>,
}

/// How the container is to look.
pub struct Plan {
    pub hostname: String,
    /// The resolver's address, where the manifest grants a network.
    pub resolver: Option<&'static str>,
    pub secrets: Vec<SecretFile>,
    pub mounts: Vec<(MountPoint, OwnedFd)>,
    /// No writable space at all was granted.
    pub shut: bool,
    pub cwd: String,
    pub user: User,
    pub capabilities: Capabilities,
}

/// A running container.
pub struct Container {
    root: OpenRoot,
    init: Pid,
    init_fd: OwnedFd,
    own_pids: File,
    /// Ends empty once the root is built.
    status: Option<OwnedFd>,
    identity: Identity,
}

fn fail(what: &str, error: impl Display) -> Failure {
    Failure::new("PROCESS_FAILED", format_args!("{what}: {error}"))
}

impl Container {
    /// Makes the namespaces and starts building the root inside.
    pub fn start(root: OpenRoot, plan: Plan) -> Result<Self, Failure> {
        make_cgroup().map_err(|e| fail("cannot make the cgroup", e))?;
        let own_pids = File::open("/proc/self/ns/pid").map_err(|e| fail("cannot open a namespace", e))?;
        let (status, tell) = pipe2(OFlag::O_CLOEXEC).map_err(|e| fail("cannot make a pipe", e))?;
        unshare(CloneFlags::CLONE_NEWPID).map_err(|e| fail("cannot make a process namespace", e))?;
        // SAFETY: this process has one thread, so the child may do anything the parent may.
        let init = match unsafe { fork() }.map_err(|e| fail("cannot fork", e))? {
            ForkResult::Child => init(&plan, tell),
            ForkResult::Parent { child } => child,
        };
        setns(&own_pids, CloneFlags::CLONE_NEWPID).map_err(|e| fail("cannot return to the namespace", e))?;
        let init_fd = open_pidfd(init)?;
        let identity = Identity {
            cwd: plan.cwd,
            user: plan.user,
            capabilities: plan.capabilities,
            filter: seccomp::filter(plan.capabilities),
        };
        Ok(Self { root, init, init_fd, own_pids, status: Some(status), identity })
    }
}

impl Launcher for Container {
    fn ready_fd(&self) -> Option<BorrowedFd<'_>> {
        self.status.as_ref().map(AsFd::as_fd)
    }

    fn ready(&mut self) -> Result<(), Failure> {
        let Some(status) = self.status.take() else {
            return Ok(());
        };
        let mut text = [0; 4096];
        match read(&status, &mut text) {
            Ok(0) => Err(fail("cannot build the container", "its first process ended")),
            Ok(1) => Ok(()),
            Ok(length) => {
                self.root.check()?;
                Err(fail(
                    "cannot build the container",
                    String::from_utf8_lossy(text.get(1..length).unwrap_or_default()),
                ))
            }
            Err(errno) => Err(fail("cannot build the container", errno)),
        }
    }

    fn launch(&mut self, spec: &Spec) -> Result<Launched, Failure> {
        let stdio = Stdio::open(spec, self.init)?;
        let (status, tell) = pipe2(OFlag::O_CLOEXEC).map_err(|e| fail("cannot make a pipe", e))?;
        setns(&self.init_fd, CloneFlags::CLONE_NEWPID).map_err(|e| fail("cannot enter the namespace", e))?;
        // SAFETY: this process has one thread, so the child may do anything the parent may.
        let forked = unsafe { fork() }.map_err(|e| fail("cannot fork", e));
        if let Ok(ForkResult::Child) = forked {
            child::run(spec, &self.identity, &self.init_fd, &stdio, tell);
        }
        setns(&self.own_pids, CloneFlags::CLONE_NEWPID).map_err(|e| fail("cannot return to the namespace", e))?;
        let ForkResult::Parent { child } = forked? else {
            return Err(fail("cannot fork", "both sides are the child"));
        };
        let Stdio { ours, .. } = stdio;
        Ok(Launched {
            pid: child.as_raw(),
            pidfd: open_pidfd(child)?,
            status: Some(status),
            stdin: ours.stdin,
            stdout: ours.stdout,
            stderr: ours.stderr,
            pty: ours.pty,
        })
    }

    fn end(&mut self) {
        // The kernel kills the namespace with its first process. It is a child not yet waited for.
        let _ = kill(self.init, Signal::SIGKILL);
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.root.check()
    }
}

/// Process 1 of the container: builds the root, then reaps what others leave behind.
fn init(plan: &Plan, tell: OwnedFd) -> ! {
    let namespaces =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWCGROUP;
    let result = child::enter_cgroup()
        .map_err(|e| format!("cannot enter the cgroup: {e}"))
        .and_then(|()| unshare(namespaces).map_err(|e| format!("cannot make namespaces: {e}")))
        .and_then(|()| rootfs::build(plan));
    // Nothing in the container may look into this process, a copy of the agent.
    // SAFETY: prctl with integers only.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    let mut message = vec![0];
    if let Err(reason) = &result {
        message.extend_from_slice(reason.as_bytes());
    }
    let mut pipe = File::from(tell);
    if pipe.write_all(&message).is_err() || result.is_err() {
        child::leave(1);
    }
    drop(pipe);
    // Without this process the container is gone, so it is the last to go when memory runs out.
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    // The control channel and the FUSE devices stay with the agent.
    // SAFETY: closes every descriptor; this process uses none from here on.
    unsafe { libc::syscall(libc::SYS_close_range, 0, u32::MAX, 0) };
    // Blocked, the signal waits for us; one that came before shows in the first round.
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let blocked = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&children), None);
    loop {
        while !matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD)) {}
        if blocked.is_err() || children.wait().is_err() {
            child::leave(1);
        }
    }
}

fn make_cgroup() -> std::io::Result<()> {
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+pids")?;
    fs::create_dir_all(CGROUP)?;
    fs::write(format!("{CGROUP}/pids.max"), max_tasks().to_string())
}

fn max_tasks() -> u64 {
    // SAFETY: sysinfo is plain numbers, which the call fills in.
    let mut memory: libc::sysinfo = unsafe { std::mem::zeroed() };
    // SAFETY: as above; where it fails the total stays 0 and the minimum holds.
    unsafe { libc::sysinfo(&mut memory) };
    (memory.totalram.saturating_mul(u64::from(memory.mem_unit)) / MEMORY_PER_TASK).clamp(MIN_TASKS, MAX_TASKS)
}

/// A descriptor that becomes readable when the child ends.
pub fn open_pidfd(pid: Pid) -> Result<OwnedFd, Failure> {
    // SAFETY: pidfd_open takes two integers and gives a new descriptor that nobody else owns.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    if fd < 0 {
        return Err(fail("cannot watch a process", Errno::last()));
    }
    // SAFETY: the call above made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

impl Stdio {
    /// Makes pipes, or a terminal of the container's own.
    fn open(spec: &Spec, init: Pid) -> Result<Self, Failure> {
        let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|e| fail("cannot make a pipe", e));
        let mut stdio = Self::default();
        if spec.tty {
            let (master, slave) =
                child::open_terminal(init, spec.size).map_err(|e| fail("cannot make a terminal", e))?;
            child::set_nonblocking(&master);
            stdio.ours.pty = Some(master);
            stdio.terminal = Some(slave);
            return Ok(stdio);
        }
        if spec.stdin {
            let (theirs, ours) = pipe()?;
            child::set_nonblocking(&ours);
            stdio.stdin = Some(theirs);
            stdio.ours.stdin = Some(ours);
        }
        for (theirs, ours) in [(&mut stdio.stdout, &mut stdio.ours.stdout), (&mut stdio.stderr, &mut stdio.ours.stderr)]
        {
            let (source, sink) = pipe()?;
            child::set_nonblocking(&source);
            // SAFETY: F_SETPIPE_SZ with an integer; a smaller pipe works too.
            unsafe { libc::fcntl(source.as_raw_fd(), libc::F_SETPIPE_SZ, PIPE_SIZE) };
            *theirs = Some(sink);
            *ours = Some(source);
        }
        Ok(stdio)
    }
}

/// An argument list as execve takes it. Texts with NUL were refused before.
pub fn c_strings(texts: &[String]) -> Vec<CString> {
    texts.iter().filter_map(|t| CString::new(t.as_str()).ok()).collect()
}
