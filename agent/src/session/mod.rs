//! A running guest: the streams between the host and its processes.

pub mod channel;
mod control;
pub mod endpoint;
pub mod launcher;
pub mod mux;
mod relay;
mod wait;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::manifest::Manifest;
use crate::protocol::frame::{Frame, Kind};
use crate::protocol::message::{FromHost, ToHost};
use channel::{Channel, ChannelError};
use endpoint::Endpoint;
use launcher::{Exit, Launcher};
use mux::{Mux, MuxError};

/// How long a farewell is waited for.
pub const BYE_TIME: Duration = Duration::from_secs(2);
/// Processes at one time.
const MAX_PROCESSES: usize = 64;
/// Messages that came before their time.
const MAX_PENDING: usize = 64;

impl From<ChannelError> for Failure {
    fn from(error: ChannelError) -> Self {
        match error {
            ChannelError::Frame(error) => Failure::protocol(error.name(), error),
            other => Failure::new("GUEST_FAILED", other),
        }
    }
}

impl From<MuxError> for Failure {
    fn from(error: MuxError) -> Self {
        Failure::protocol(error.name(), error)
    }
}

/// A process the host knows by number.
struct Process {
    launched: launcher::Launched,
    /// Where its output goes, until closed.
    outputs: Vec<u32>,
    stdin: Option<u32>,
    ended: Option<Exit>,
    /// It never ran: the exit code of that.
    complaint: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// Before the main process; messages that are early are kept.
    Booting,
    Running,
    /// The main process ended: the rest is being drained.
    Ending,
    Done,
}

/// One session with the host, from `boot` on.
pub struct Session {
    channel: Channel,
    mux: Mux,
    endpoints: BTreeMap<u32, Endpoint>,
    processes: BTreeMap<u32, Process>,
    phase: Phase,
    pending: Vec<FromHost>,
    manifest: Option<Manifest>,
    /// `NAME=VALUE` of every process.
    secrets: Vec<String>,
    launcher: Option<Box<dyn Launcher>>,
    /// When a process that was asked to stop is killed.
    kill_at: Option<Instant>,
    next_check: Instant,
    scratch: Vec<u8>,
}

impl Session {
    /// A session over a channel that has read `boot`.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            mux: Mux::default(),
            endpoints: BTreeMap::new(),
            processes: BTreeMap::new(),
            phase: Phase::Booting,
            pending: Vec::new(),
            manifest: None,
            secrets: Vec::new(),
            launcher: None,
            kill_at: None,
            next_check: Instant::now(),
            scratch: Vec::new(),
        }
    }

    /// The channel, for what is said during the boot.
    pub fn channel(&mut self) -> &mut Channel {
        &mut self.channel
    }

    /// Opens streams the host named in `boot`.
    pub fn open(&mut self, ids: &[u32]) -> Result<(), Failure> {
        Ok(self.mux.open(ids)?)
    }

    /// Asks the broker through the host and waits for the answer.
    pub fn ask_broker(&mut self, request: &ToHost<'_>, id: u32) -> Result<FromHost, Failure> {
        self.channel.say(request);
        loop {
            let Some(frame) = self.channel.wait_frame(None)? else {
                continue;
            };
            if let Some(message) = self.on_frame(frame)? {
                match message {
                    FromHost::HttpResponse { id: got, .. } | FromHost::HttpError { id: got, .. } if got == id => {
                        return Ok(message);
                    }
                    other => return Err(unexpected(&other)),
                }
            }
        }
    }

    /// Takes one frame; gives back a control message only the boot can use.
    fn on_frame(&mut self, frame: Frame) -> Result<Option<FromHost>, Failure> {
        let Frame { kind, stream, payload } = frame;
        match kind {
            Kind::Control => {
                let message = FromHost::parse(&payload).map_err(|e| Failure::protocol(e.name(), e))?;
                return self.on_message(message);
            }
            Kind::Data => {
                if !self.mux.data(stream, &payload)? {
                    self.channel.reset(stream, "no such stream");
                }
            }
            Kind::Window => {
                let mut more = [0; 4];
                more.copy_from_slice(&payload);
                self.mux.window(stream, u32::from_le_bytes(more))?;
            }
            Kind::Close => self.mux.close(stream),
            Kind::Reset => self.forget(stream),
        }
        Ok(None)
    }

    fn on_message(&mut self, message: FromHost) -> Result<Option<FromHost>, Failure> {
        match (self.phase, message) {
            (Phase::Booting, FromHost::Stop { .. } | FromHost::Bye) => {
                Err(Failure::new("STOPPED", "stopped before the process ran"))
            }
            (
                Phase::Booting,
                early @ (FromHost::Signal { .. }
                | FromHost::Resize { .. }
                | FromHost::Exec(_)
                | FromHost::Connect { .. }),
            ) => {
                if self.pending.len() >= MAX_PENDING {
                    return Err(unexpected(&early));
                }
                self.pending.push(early);
                Ok(None)
            }
            (Phase::Booting, answer) => Ok(Some(answer)),
            (_, message) => self.control(message).map(|()| None),
        }
    }

    /// Ends a stream without a word: the host reset it, or its other side is gone.
    fn forget(&mut self, stream: u32) {
        self.mux.remove(stream);
        self.endpoints.remove(&stream);
    }

    /// Ends a stream and tells the host why.
    fn reset(&mut self, stream: u32, reason: &str) {
        if self.mux.get(stream).is_some() {
            self.channel.reset(stream, reason);
        }
        self.forget(stream);
    }

    /// Waits for the host's farewell, sending what is left.
    pub fn farewell(&mut self) {
        farewell(&mut self.channel);
    }
}

/// Sends what is queued and waits for `bye`, at most two seconds each.
pub fn farewell(channel: &mut Channel) {
    let until = Instant::now() + BYE_TIME;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        match channel.wait_frame(Some(left.as_millis().min(2000) as u16)) {
            Ok(Some(Frame { kind: Kind::Control, payload, .. })) => {
                if matches!(FromHost::parse(&payload), Ok(FromHost::Bye)) {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

/// A message nobody waits for.
pub fn unexpected(message: &FromHost) -> Failure {
    let name = match message {
        FromHost::Boot(_) => "boot",
        FromHost::HttpResponse { .. } => "http-response",
        FromHost::HttpError { .. } => "http-error",
        FromHost::Exec(_) => "exec",
        FromHost::Signal { .. } => "signal",
        FromHost::Resize { .. } => "resize",
        FromHost::Connect { .. } => "connect",
        FromHost::Stop { .. } => "stop",
        FromHost::Bye => "bye",
    };
    Failure::protocol("CONTROL_UNEXPECTED", format_args!("{name} is not expected now"))
}
