//! The loop of a running guest: waits for whatever comes first and carries it on.

use std::os::fd::{AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::read;

use super::endpoint::Role;
use super::launcher::{Exit, Spec};
use super::{ChannelError, Phase, Session, unexpected};
use crate::failure::Failure;
use crate::machine::clock::uptime_ms;
use crate::protocol::frame::Kind;
use crate::protocol::message::{Streams, ToHost};

/// How often the root is looked after while nothing ends.
const CHECK_EVERY: Duration = Duration::from_secs(2);
/// A launch's complaint is one line.
const MAX_COMPLAINT: usize = 4096;

#[derive(Clone, Copy)]
enum Source {
    Channel,
    Launcher,
    Status(u32),
    Process(u32),
    Endpoint(u32),
}

impl Session {
    /// Runs the main process and everything beside it to the end.
    pub fn run(&mut self, main: &Spec, streams: Streams) -> Result<(), Failure> {
        self.next_check = Instant::now() + CHECK_EVERY;
        loop {
            if self.phase == Phase::Booting && self.launcher_is_ready() {
                self.start(1, main, streams)?;
                self.phase = Phase::Running;
                for message in std::mem::take(&mut self.pending) {
                    self.control(message)?;
                }
            }
            self.settle()?;
            self.channel.flush()?;
            if self.phase == Phase::Done {
                return Ok(());
            }
            self.wait()?;
            self.kill_when_due();
            if self.next_check <= Instant::now() {
                self.check()?;
                self.next_check = Instant::now() + CHECK_EVERY;
            }
        }
    }

    fn launcher_is_ready(&self) -> bool {
        self.launcher.as_ref().is_some_and(|l| l.ready_fd().is_none())
    }

    fn check(&mut self) -> Result<(), Failure> {
        self.launcher.as_mut().map_or(Ok(()), |l| l.check())
    }

    /// One turn: waits, then moves what can be moved.
    fn wait(&mut self) -> Result<(), Failure> {
        let mut fds: Vec<libc::pollfd> = Vec::new();
        let mut sources: Vec<Source> = Vec::new();
        let mut add = |fd: RawFd, events: i16, source: Source| {
            fds.push(libc::pollfd { fd, events, revents: 0 });
            sources.push(source);
        };
        let room = self.channel.has_room();
        let input = if room { libc::POLLIN } else { 0 };
        let output = if self.channel.pending() > 0 { libc::POLLOUT } else { 0 };
        add(self.channel.fd().as_raw_fd(), input | output, Source::Channel);
        if self.phase == Phase::Booting
            && let Some(fd) = self.launcher.as_ref().and_then(|l| l.ready_fd())
        {
            add(fd.as_raw_fd(), libc::POLLIN, Source::Launcher);
        }
        for (id, process) in &self.processes {
            if let Some(status) = &process.launched.status {
                add(status.as_raw_fd(), libc::POLLIN, Source::Status(*id));
            }
            if process.ended.is_none() {
                add(process.launched.pidfd.as_raw_fd(), libc::POLLIN, Source::Process(*id));
            }
        }
        for (id, endpoint) in &self.endpoints {
            let Some(stream) = self.mux.peek(*id) else {
                continue;
            };
            let reads = matches!(endpoint.role, Role::Source(_) | Role::Socket(false) | Role::Fuse);
            let mut events = 0;
            if reads && room && stream.credit() > 0 {
                events |= libc::POLLIN;
            }
            if !stream.incoming.is_empty() || endpoint.role == Role::Socket(true) {
                events |= libc::POLLOUT;
            }
            // A pipe without events still tells when its reader is gone.
            if events != 0 || endpoint.role == Role::Sink {
                add(endpoint.raw(), events, Source::Endpoint(*id));
            }
        }
        let now = Instant::now();
        let until = self.kill_at.map_or(self.next_check, |at| at.min(self.next_check));
        let timeout = until.saturating_duration_since(now).as_millis().min(60_000) as i32 + 1;
        // SAFETY: the pointer and length are those of a live vector of pollfd.
        let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) };
        if ready < 0 && Errno::last() != Errno::EINTR {
            return Err(Failure::guest(format_args!("cannot wait: {}", Errno::last())));
        }
        for (fd, source) in fds.iter().zip(sources) {
            if fd.revents != 0 {
                self.on_ready(source, fd.revents)?;
            }
        }
        Ok(())
    }

    fn on_ready(&mut self, source: Source, events: i16) -> Result<(), Failure> {
        match source {
            Source::Channel => {
                let gone = libc::POLLHUP | libc::POLLERR;
                if events & (libc::POLLIN | gone) != 0 && self.channel.has_room() {
                    self.channel.fill()?;
                    self.take_frames()?;
                } else if events & gone != 0 {
                    // Whoever is gone takes nothing any more, so there will never be room.
                    return Err(ChannelError::Closed.into());
                }
            }
            Source::Launcher => {
                if let Some(launcher) = &mut self.launcher {
                    launcher.ready()?;
                }
            }
            Source::Status(id) => self.read_status(id)?,
            Source::Process(id) => self.reap(id)?,
            Source::Endpoint(id) => {
                let role = self.endpoints.get(&id).map(|e| e.role);
                if role == Some(Role::Sink) && events & libc::POLLERR != 0 {
                    self.reset(id, "nobody reads this any more");
                    return Ok(());
                }
                if events & libc::POLLOUT != 0 || role == Some(Role::Socket(true)) {
                    self.push(id);
                }
                if events & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) != 0 {
                    self.pull(id);
                }
            }
        }
        Ok(())
    }

    /// Handles every frame that was read, and writes on at once what they carried.
    fn take_frames(&mut self) -> Result<(), Failure> {
        while let Some(frame) = self.channel.next_frame()? {
            let (kind, stream) = (frame.kind, frame.stream);
            if let Some(message) = self.on_frame(frame)? {
                return Err(unexpected(&message));
            }
            if matches!(kind, Kind::Data | Kind::Close) {
                let connecting = self.endpoints.get(&stream).is_some_and(|e| e.role == Role::Socket(true));
                if !connecting {
                    self.push(stream);
                }
            }
        }
        Ok(())
    }

    /// Learns whether a process runs.
    fn read_status(&mut self, id: u32) -> Result<(), Failure> {
        let Some(process) = self.processes.get_mut(&id) else {
            return Ok(());
        };
        let Some(status) = process.launched.status.take() else {
            return Ok(());
        };
        let mut text = [0; MAX_COMPLAINT];
        let length = loop {
            match read(&status, &mut text) {
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(Failure::new("PROCESS_FAILED", errno)),
            }
        };
        let Some((code, reason)) = text.get(..length).and_then(<[u8]>::split_first) else {
            if id == 1 {
                self.channel.say(&ToHost::Step { step: "process", ms: uptime_ms() });
            }
            self.channel.say(&ToHost::Started { process: id });
            return Ok(());
        };
        let reason = String::from_utf8_lossy(reason).into_owned();
        if *code == 0 && id == 1 {
            return Err(Failure::new("PROCESS_FAILED", reason));
        }
        process.complaint = Some(if *code == 0 { 126 } else { *code });
        // At once: its output has ended, and is closed as soon as that is seen.
        let output = process.outputs.last().copied();
        self.complain(output, &reason);
        Ok(())
    }

    fn reap(&mut self, id: u32) -> Result<(), Failure> {
        self.read_status(id)?;
        let Some(process) = self.processes.get_mut(&id) else {
            return Ok(());
        };
        let Some(exit) = wait_child(process.launched.pid)? else {
            return Ok(());
        };
        process.ended = Some(process.complaint.map_or(exit, Exit::Code));
        let (outputs, stdin) = (process.outputs.clone(), process.stdin.take());
        if let Some(stdin) = stdin {
            self.reset(stdin, "the process ended");
        }
        if id == 1 {
            self.phase = Phase::Ending;
            self.kill_at = None;
            // Whoever waits for a mount cannot be killed while its device is open.
            let mounts: Vec<u32> =
                self.endpoints.iter().filter(|(_, e)| e.role == Role::Fuse).map(|(id, _)| *id).collect();
            for mount in mounts {
                self.reset(mount, "the process ended");
            }
            if let Some(launcher) = &mut self.launcher {
                launcher.end();
            }
        }
        for output in outputs {
            if let Some(endpoint) = self.endpoints.get_mut(&output) {
                endpoint.draining = true;
            }
        }
        self.check()
    }

    /// Says on a process's error output why it never ran.
    fn complain(&mut self, stream: Option<u32>, reason: &str) {
        let Some(id) = stream else {
            return;
        };
        let line = format!("shelter: {reason}\r\n");
        let line = if self.processes.values().any(|p| p.launched.pty.is_some() && p.outputs.contains(&id)) {
            line
        } else {
            line.replace('\r', "")
        };
        if let Some(stream) = self.mux.get(id)
            && stream.credit() >= line.len()
        {
            stream.sent(line.len());
            self.channel.queue(Kind::Data, id, line.as_bytes());
        }
    }

    /// Drains what ended, reports what is drained, and ends the session after the main process.
    fn settle(&mut self) -> Result<(), Failure> {
        let draining: Vec<u32> = self.endpoints.iter().filter(|(_, e)| e.draining).map(|(id, _)| *id).collect();
        for id in draining {
            if self.channel.has_room() {
                self.pull(id);
            }
        }
        let mut reported = Vec::new();
        for (id, process) in &self.processes {
            let Some(exit) = process.ended else {
                continue;
            };
            let drained = process.outputs.iter().all(|output| self.mux.get(*output).is_none());
            if drained && (*id != 1 || self.processes.len() == 1 && self.connections_are_quiet()) {
                reported.push((*id, exit));
            }
        }
        for (id, exit) in reported {
            self.processes.remove(&id);
            self.channel.say(&match exit {
                Exit::Code(code) => ToHost::ExitCode { process: id, code },
                Exit::Signal(signal) => ToHost::ExitSignal { process: id, signal },
            });
            if id == 1 {
                self.check()?;
                self.channel.say(&ToHost::Bye);
                self.phase = Phase::Done;
            }
        }
        Ok(())
    }

    /// Whether no connection has anything left that the host would take.
    fn connections_are_quiet(&self) -> bool {
        self.endpoints.iter().all(|(id, endpoint)| {
            !matches!(endpoint.role, Role::Socket(_)) || self.mux.peek(*id).is_none_or(|s| s.credit() == 0)
        })
    }
}

/// How a child ended, if it did. Signals are numbers here: real-time ones have no name.
fn wait_child(pid: i32) -> Result<Option<Exit>, Failure> {
    let mut status = 0;
    // SAFETY: waitpid writes one int, which outlives the call.
    let found = unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) };
    match found {
        0 => Ok(None),
        _ if found < 0 && Errno::last() == Errno::EINTR => Ok(None),
        _ if found < 0 => Err(Failure::new("PROCESS_FAILED", Errno::last())),
        _ if libc::WIFSIGNALED(status) => Ok(Some(Exit::Signal(libc::WTERMSIG(status) as u8))),
        _ => Ok(Some(Exit::Code(libc::WEXITSTATUS(status) as u8))),
    }
}
