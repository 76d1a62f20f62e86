//! What the host asks of a running guest.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, connect, socket};

use super::endpoint::{Endpoint, set_size};
use super::launcher::{Launched, Launcher, Spec};
use super::{MAX_PROCESSES, Phase, Process, Session, unexpected};
use crate::failure::Failure;
use crate::grants::check_exec;
use crate::manifest::Manifest;
use crate::protocol::message::{Exec, FromHost, Streams, ToHost};

impl Session {
    /// Gives the session what it needs to start processes. `secrets` are variables of every process, `fuse` the
    /// mounts' devices by stream.
    pub fn equip(
        &mut self,
        manifest: Manifest,
        secrets: Vec<String>,
        launcher: Box<dyn Launcher>,
        fuse: Vec<(u32, OwnedFd)>,
    ) {
        self.manifest = Some(manifest);
        self.secrets = secrets;
        self.launcher = Some(launcher);
        for (stream, device) in fuse {
            self.endpoints.insert(stream, Endpoint::fuse(device));
        }
    }

    /// Handles a message once the main process is there.
    pub(super) fn control(&mut self, message: FromHost) -> Result<(), Failure> {
        match message {
            FromHost::Exec(exec) => self.exec(*exec),
            FromHost::Signal { process, signal } => {
                if let Some(p) = self.processes.get(&process)
                    && p.ended.is_none()
                {
                    send_signal(p.launched.pid, i32::from(signal));
                }
                Ok(())
            }
            FromHost::Resize { process, size } => {
                if let Some(pty) = self.processes.get(&process).and_then(|p| p.launched.pty.as_ref()) {
                    set_size(pty, size);
                }
                Ok(())
            }
            FromHost::Connect { stream, port } => self.connect(stream, port),
            FromHost::Stop { timeout } => {
                self.stop(Duration::from_secs(u64::from(timeout)));
                Ok(())
            }
            FromHost::Bye => {
                if self.phase == Phase::Running {
                    self.stop(Duration::ZERO);
                } else {
                    // The host waits for nothing more, so neither do we.
                    self.phase = Phase::Done;
                }
                Ok(())
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Asks the main process to end, and kills it when the time is over.
    fn stop(&mut self, timeout: Duration) {
        let Some(main) = self.processes.get(&1).filter(|p| p.ended.is_none()) else {
            return;
        };
        if timeout.is_zero() {
            send_signal(main.launched.pid, Signal::SIGKILL as i32);
        } else {
            send_signal(main.launched.pid, Signal::SIGTERM as i32);
            let at = Instant::now() + timeout;
            self.kill_at = Some(self.kill_at.map_or(at, |earlier| earlier.min(at)));
        }
    }

    /// Kills the main process if it was asked to stop and did not.
    pub(super) fn kill_when_due(&mut self) {
        if self.kill_at.is_some_and(|at| at <= Instant::now()) {
            self.kill_at = None;
            self.stop(Duration::ZERO);
        }
    }

    fn exec(&mut self, exec: Exec) -> Result<(), Failure> {
        let Exec { process, streams, .. } = exec;
        if self.processes.contains_key(&process) {
            return Err(Failure::protocol("CONTROL_UNEXPECTED", format_args!("process {process} is there already")));
        }
        self.mux.open(&[streams.stdin, streams.stdout, streams.stderr])?;
        let refusal = match &self.manifest {
            _ if self.phase != Phase::Running => Some(("process", "the main process has ended".to_owned())),
            _ if self.processes.len() >= MAX_PROCESSES => {
                Some(("maxProcesses", format!("{MAX_PROCESSES} processes run already")))
            }
            Some(manifest) => check_exec(manifest, &exec).err().map(|r| (r.key, r.reason)),
            None => Some(("allow.exec", "nothing is granted".to_owned())),
        };
        if let Some((key, reason)) = refusal {
            for stream in [streams.stdin, streams.stdout, streams.stderr] {
                self.forget(stream);
            }
            self.channel.say(&ToHost::Refused { process, reason: &reason, key });
            return Ok(());
        }
        let mut env = self.manifest.as_ref().map_or_else(Vec::new, |m| m.process.env.clone());
        env.extend(exec.env);
        env.extend(self.secrets.iter().cloned());
        let spec = Spec { argv: exec.argv, env, tty: exec.tty, size: exec.size, stdin: exec.stdin };
        self.start(process, &spec, streams)
    }

    /// Starts a process and connects its streams.
    pub(super) fn start(&mut self, process: u32, spec: &Spec, streams: Streams) -> Result<(), Failure> {
        let Some(launcher) = &mut self.launcher else {
            return Err(Failure::new("PROCESS_FAILED", "nothing can start a process"));
        };
        let mut launched: Launched = launcher.launch(spec)?;
        let mut outputs = vec![streams.stdout];
        if let Some(pty) = &launched.pty {
            let copy = || pty.try_clone().map_err(|e| Failure::new("PROCESS_FAILED", e));
            let (sink, source) = (copy()?, copy()?);
            self.endpoints.insert(streams.stdout, Endpoint::source(source, process));
            if spec.stdin {
                self.endpoints.insert(streams.stdin, Endpoint::terminal(sink));
            }
            self.end_output(streams.stderr);
        } else {
            for (stream, fd) in [(streams.stdout, launched.stdout.take()), (streams.stderr, launched.stderr.take())] {
                if let Some(fd) = fd {
                    self.endpoints.insert(stream, Endpoint::source(fd, process));
                }
            }
            if let Some(fd) = launched.stdin.take() {
                self.endpoints.insert(streams.stdin, Endpoint::sink(fd));
            }
            outputs.push(streams.stderr);
        }
        let stdin = spec.stdin.then_some(streams.stdin);
        if stdin.is_none() {
            self.forget(streams.stdin);
        }
        // A stream the host reset before its process was there gets its broken pipe now.
        let known: Vec<u32> = outputs.iter().chain(&stdin).copied().collect();
        for stream in known {
            if self.mux.get(stream).is_none() {
                self.endpoints.remove(&stream);
            }
        }
        self.processes.insert(process, Process { launched, outputs, stdin, ended: None, complaint: None });
        // Input, and its end, that came before there was anybody to read it.
        self.push(streams.stdin);
        Ok(())
    }

    fn connect(&mut self, stream: u32, port: u16) -> Result<(), Failure> {
        self.mux.open(&[stream])?;
        if !self.manifest.as_ref().is_some_and(|m| m.ports.contains(&port)) {
            self.reset(stream, &format!("ports: {port} is not granted"));
            return Ok(());
        }
        match open_connection(port) {
            Ok(endpoint) => {
                self.endpoints.insert(stream, endpoint);
            }
            Err(errno) => self.reset(stream, &format!("cannot connect to port {port}: {}", errno.desc())),
        }
        Ok(())
    }
}

fn open_connection(port: u16) -> Result<Endpoint, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    nix::sys::socket::setsockopt(&fd, nix::sys::socket::sockopt::TcpNoDelay, &true)?;
    use std::os::fd::AsRawFd;
    match connect(fd.as_raw_fd(), &SockaddrIn::new(127, 0, 0, 1, port)) {
        Ok(()) => Ok(Endpoint::socket(fd, false)),
        Err(Errno::EINPROGRESS) => Ok(Endpoint::socket(fd, true)),
        Err(errno) => Err(errno),
    }
}

/// Sends a signal, real-time ones included. A process that is gone needs none.
fn send_signal(pid: i32, signal: i32) {
    // SAFETY: kill takes two integers; the pid is a child not yet waited for, so it is nobody else's.
    unsafe { libc::kill(pid, signal) };
}
