//! Moves bytes between streams and their endpoints, as far as both sides take them.

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt};
use nix::unistd::{read, write};

use super::Session;
use super::endpoint::{Endpoint, MAX_FUSE, Role};
use crate::protocol::frame::Kind;

/// The control character that ends the input of a terminal (VEOF of a fresh terminal).
const END_OF_INPUT: u8 = 4;
/// struct fuse_out_header.
const FUSE_HEADER: usize = 16;

/// What became of an endpoint.
enum Outcome {
    Open,
    /// This side is done; the stream ends in silence.
    Forget,
    Reset(&'static str),
}

impl Session {
    /// Writes what the host sent on to the endpoint.
    pub(super) fn push(&mut self, id: u32) {
        let (Some(endpoint), Some(stream)) = (self.endpoints.get_mut(&id), self.mux.get(id)) else {
            return;
        };
        let outcome = match endpoint.role {
            Role::Source(_) => {
                // The host has nothing to say here; its window runs out and that is the end of it.
                stream.incoming.clear();
                Outcome::Open
            }
            Role::Fuse => push_fuse(endpoint, stream, |more| {
                self.channel.queue(Kind::Window, id, &more.to_le_bytes());
            }),
            _ => push_bytes(endpoint, stream, |more| {
                self.channel.queue(Kind::Window, id, &more.to_le_bytes());
            }),
        };
        match outcome {
            Outcome::Open => {}
            Outcome::Forget => self.forget(id),
            Outcome::Reset(reason) => self.reset(id, reason),
        }
    }

    /// Reads what the endpoint has and sends it to the host.
    pub(super) fn pull(&mut self, id: u32) {
        let (Some(endpoint), Some(stream)) = (self.endpoints.get_mut(&id), self.mux.get(id)) else {
            return;
        };
        if let Role::Fuse = endpoint.role {
            self.pull_fuse(id);
            return;
        }
        let max = stream.credit();
        if max == 0 {
            return;
        }
        let fd = &endpoint.fd;
        match self.channel.queue_read(id, max, |buffer| read(fd, buffer)) {
            Ok(0) => self.end_of(id),
            Ok(length) => stream.sent(length),
            Err(Errno::EAGAIN) if endpoint.draining => self.end_of(id),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // A terminal whose last process closed it.
            Err(Errno::EIO) if matches!(endpoint.role, Role::Source(_)) => self.end_of(id),
            Err(errno) => self.reset(id, errno.desc()),
        }
    }

    /// Nothing more will be read from the endpoint.
    fn end_of(&mut self, id: u32) {
        match self.endpoints.get(&id).map(|e| e.role) {
            Some(Role::Socket(_)) => {
                self.channel.queue(Kind::Close, id, &[]);
                if let Some(stream) = self.mux.get(id) {
                    stream.guest_closed = true;
                    if stream.host_closed && stream.incoming.is_empty() {
                        self.forget(id);
                    }
                }
            }
            _ => self.end_output(id),
        }
    }

    /// Closes an output for good.
    pub(super) fn end_output(&mut self, id: u32) {
        if self.mux.get(id).is_some() {
            self.channel.queue(Kind::Close, id, &[]);
        }
        self.forget(id);
    }

    fn pull_fuse(&mut self, id: u32) {
        let (Some(endpoint), Some(stream)) = (self.endpoints.get_mut(&id), self.mux.get(id)) else {
            return;
        };
        if endpoint.held.is_empty() {
            self.scratch.resize(MAX_FUSE, 0);
            match read(&endpoint.fd, &mut self.scratch) {
                Ok(length) => endpoint.held.extend_from_slice(self.scratch.get(..length).unwrap_or_default()),
                // ENOENT: the request was withdrawn before we read it. EPERM: it is not mounted yet, which the
                // container's own process does while this one runs on.
                Err(Errno::EAGAIN | Errno::EINTR | Errno::ENOENT | Errno::EPERM) => return,
                Err(_) => return self.reset(id, "the mount is gone"),
            }
        }
        let length = endpoint.held.len().min(stream.credit());
        for chunk in endpoint.held.get(..length).unwrap_or_default().chunks(crate::protocol::frame::MAX_DATA) {
            self.channel.queue(Kind::Data, id, chunk);
        }
        endpoint.held.drain(..length);
        stream.sent(length);
    }
}

fn push_bytes(endpoint: &mut Endpoint, stream: &mut super::mux::Stream, mut grant: impl FnMut(u32)) -> Outcome {
    if let Role::Socket(connecting @ true) = &mut endpoint.role {
        match getsockopt(&endpoint.fd, sockopt::SocketError) {
            Ok(0) => *connecting = false,
            _ => return Outcome::Reset("connection refused"),
        }
    }
    while !stream.incoming.is_empty() {
        match write(&endpoint.fd, stream.incoming.as_slices().0) {
            Ok(length) => {
                stream.incoming.drain(..length);
                if let Some(more) = stream.consumed(length) {
                    grant(more);
                }
            }
            Err(Errno::EAGAIN) => return Outcome::Open,
            Err(Errno::EINTR) => {}
            Err(errno) => return Outcome::Reset(errno.desc()),
        }
    }
    if !stream.host_closed {
        return Outcome::Open;
    }
    match endpoint.role {
        Role::Socket(_) => {
            if stream.guest_closed {
                return Outcome::Forget;
            }
            // An error here shows when the socket is read.
            let _ = shutdown(endpoint.fd.as_raw_fd(), Shutdown::Write);
            Outcome::Open
        }
        Role::Terminal => match write(&endpoint.fd, &[END_OF_INPUT]) {
            Err(Errno::EAGAIN | Errno::EINTR) => Outcome::Open,
            _ => Outcome::Forget,
        },
        _ => Outcome::Forget,
    }
}

fn push_fuse(endpoint: &mut Endpoint, stream: &mut super::mux::Stream, mut grant: impl FnMut(u32)) -> Outcome {
    let length = stream.incoming.len();
    endpoint.assembly.extend(stream.incoming.drain(..));
    if let Some(more) = stream.consumed(length) {
        grant(more);
    }
    while let Some(prefix) = endpoint.assembly.first_chunk::<4>() {
        let length = u32::from_le_bytes(*prefix) as usize;
        if !(FUSE_HEADER..=MAX_FUSE).contains(&length) {
            return Outcome::Reset("not a FUSE answer");
        }
        let Some(message) = endpoint.assembly.get(..length) else {
            break;
        };
        match write(&endpoint.fd, message) {
            // ENOENT: whoever asked no longer waits.
            Ok(_) | Err(Errno::ENOENT | Errno::EINTR) => {
                endpoint.assembly.drain(..length);
            }
            Err(_) => return Outcome::Reset("not a FUSE answer"),
        }
    }
    if stream.host_closed { Outcome::Reset("the mount is closed") } else { Outcome::Open }
}
