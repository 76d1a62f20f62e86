//! What a session needs of whoever starts processes. The container does it in a guest, a plain fork in tests.

use std::os::fd::{BorrowedFd, OwnedFd};

use crate::failure::Failure;
use crate::protocol::message::Size;

/// A process to start.
pub struct Spec {
    pub argv: Vec<String>,
    /// `NAME=VALUE`, the later of two equal names counts.
    pub env: Vec<String>,
    pub tty: bool,
    pub size: Option<Size>,
    pub stdin: bool,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Code(u8),
    Signal(u8),
}

/// A process that was started.
pub struct Launched {
    pub pid: i32,
    /// Readable once it ended.
    pub pidfd: OwnedFd,
    /// Ends empty once the program runs; else says why it does not: its exit code and a sentence.
    pub status: Option<OwnedFd>,
    /// Our ends, non-blocking.
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// The terminal, in place of the three.
    pub pty: Option<OwnedFd>,
}

/// Starts processes and ends them.
pub trait Launcher {
    /// Readable when processes can be started or never will be; none: at once.
    fn ready_fd(&self) -> Option<BorrowedFd<'_>>;
    /// Called when `ready_fd` is readable.
    fn ready(&mut self) -> Result<(), Failure>;
    /// Starts one.
    fn launch(&mut self, spec: &Spec) -> Result<Launched, Failure>;
    /// Kills everything that was started.
    fn end(&mut self);
    /// Whether what runs is still what was built.
    fn check(&mut self) -> Result<(), Failure>;
}
