//! The control channel: one file descriptor to the host, never waited on while anything else can go on.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd;

use crate::protocol::frame::{Decoder, Frame, FrameError, HEADER, Kind, MAX_DATA, header};
use crate::protocol::message::{ToHost, clip};

/// While more than this waits to be sent, nothing more is read: a host that does not listen is not heard.
const HIGH_WATER: usize = 512 * 1024;

/// Why the channel ended.
#[derive(Debug)]
pub enum ChannelError {
    Closed,
    Io(io::Error),
    Frame(FrameError),
}

impl fmt::Display for ChannelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the host closed the channel"),
            Self::Io(error) => write!(f, "the channel to the host failed: {error}"),
            Self::Frame(error) => write!(f, "{}: {error}", error.name()),
        }
    }
}

impl From<Errno> for ChannelError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// The channel.
pub struct Channel {
    fd: OwnedFd,
    decoder: Decoder,
    out: Vec<u8>,
    sent: usize,
    scratch: Vec<u8>,
}

impl Channel {
    /// Takes a file descriptor in non-blocking mode.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, decoder: Decoder::default(), out: Vec::new(), sent: 0, scratch: vec![0; MAX_DATA] }
    }

    /// The descriptor, to poll.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Queues a control message.
    pub fn say(&mut self, message: &ToHost<'_>) {
        self.queue(Kind::Control, 0, &message.encode());
    }

    /// Queues a frame.
    pub fn queue(&mut self, kind: Kind, stream: u32, payload: &[u8]) {
        self.out.extend_from_slice(&header(kind, stream, payload.len()));
        self.out.extend_from_slice(payload);
    }

    /// Queues a reset.
    pub fn reset(&mut self, stream: u32, reason: &str) {
        self.queue(Kind::Reset, stream, clip(reason, 256).as_bytes());
    }

    /// Reads at most `max` bytes of a source straight into a data frame; nothing is queued on an error or at
    /// the end (0).
    pub fn queue_read<R>(&mut self, stream: u32, max: usize, read: R) -> Result<usize, Errno>
    where
        R: FnOnce(&mut [u8]) -> Result<usize, Errno>,
    {
        let start = self.out.len();
        let body = start + HEADER;
        self.out.resize(body + max.min(MAX_DATA), 0);
        let result = read(self.out.get_mut(body..).unwrap_or_default());
        match result {
            Ok(length) if length > 0 => {
                self.out.truncate(body + length);
                if let Some(place) = self.out.get_mut(start..body) {
                    place.copy_from_slice(&header(Kind::Data, stream, length));
                }
            }
            _ => self.out.truncate(start),
        }
        result
    }

    /// Bytes that wait to be sent.
    pub fn pending(&self) -> usize {
        self.out.len() - self.sent
    }

    /// Whether more may be queued by those who can wait.
    pub fn has_room(&self) -> bool {
        self.pending() < HIGH_WATER
    }

    /// Sends what can be sent without waiting.
    pub fn flush(&mut self) -> Result<(), ChannelError> {
        while self.sent < self.out.len() {
            match unistd::write(&self.fd, self.out.get(self.sent..).unwrap_or_default()) {
                Ok(0) | Err(Errno::EAGAIN) => break,
                Ok(length) => self.sent += length,
                Err(Errno::EINTR) => {}
                Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(ChannelError::Closed),
                Err(errno) => return Err(errno.into()),
            }
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        } else if self.sent > HIGH_WATER {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// Reads once, without waiting. False: nothing is there now.
    pub fn fill(&mut self) -> Result<bool, ChannelError> {
        match unistd::read(&self.fd, &mut self.scratch) {
            Ok(0) => Err(ChannelError::Closed),
            Ok(length) => {
                self.decoder.push(self.scratch.get(..length).unwrap_or_default());
                Ok(true)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(Errno::ECONNRESET) => Err(ChannelError::Closed),
            Err(errno) => Err(errno.into()),
        }
    }

    /// The next frame that was read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ChannelError> {
        self.decoder.next_frame().map_err(ChannelError::Frame)
    }

    /// Waits for the next frame, sending meanwhile; none after `timeout` milliseconds.
    pub fn wait_frame(&mut self, timeout: Option<u16>) -> Result<Option<Frame>, ChannelError> {
        let timeout = timeout.map_or(PollTimeout::NONE, PollTimeout::from);
        loop {
            self.flush()?;
            if let Some(frame) = self.next_frame()? {
                return Ok(Some(frame));
            }
            let mut flags = PollFlags::POLLIN;
            if self.pending() > 0 {
                flags |= PollFlags::POLLOUT;
            }
            match poll(&mut [PollFd::new(self.fd.as_fd(), flags)], timeout) {
                Ok(0) => return Ok(None),
                Ok(_) => {
                    self.fill()?;
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}
