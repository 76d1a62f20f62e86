//! The guest's end of a stream: a pipe, a terminal, a socket or a FUSE device.

use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::protocol::message::Size;

/// The longest FUSE message either way: 1 MiB of data and its header.
pub const MAX_FUSE: usize = 1024 * 1024 + 4096;

/// What a descriptor is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A pipe to a process's input.
    Sink,
    /// A terminal's input.
    Terminal,
    /// Output of a process, by its number.
    Source(u32),
    /// A TCP connection; true until it is made.
    Socket(bool),
    /// `/dev/fuse`: whole messages.
    Fuse,
}

/// One end.
pub struct Endpoint {
    pub fd: OwnedFd,
    pub role: Role,
    /// The process ended: once nothing is left to read, that is the end.
    pub draining: bool,
    /// A message read from `/dev/fuse` that waits for credit.
    pub held: Vec<u8>,
    /// The beginning of a message for `/dev/fuse`.
    pub assembly: Vec<u8>,
}

impl Endpoint {
    fn new(fd: OwnedFd, role: Role) -> Self {
        Self { fd, role, draining: false, held: Vec::new(), assembly: Vec::new() }
    }
    pub fn sink(fd: OwnedFd) -> Self {
        Self::new(fd, Role::Sink)
    }
    pub fn terminal(fd: OwnedFd) -> Self {
        Self::new(fd, Role::Terminal)
    }
    pub fn source(fd: OwnedFd, process: u32) -> Self {
        Self::new(fd, Role::Source(process))
    }
    pub fn socket(fd: OwnedFd, connecting: bool) -> Self {
        Self::new(fd, Role::Socket(connecting))
    }
    pub fn fuse(fd: OwnedFd) -> Self {
        Self::new(fd, Role::Fuse)
    }
    /// The descriptor, to poll.
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Sets a terminal's size; a terminal that is gone needs none.
pub fn set_size(pty: &OwnedFd, size: Size) {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one winsize, which outlives the call.
    unsafe { libc::ioctl(pty.as_raw_fd(), libc::TIOCSWINSZ, &size) };
}
