//! The streams of a session as the protocol sees them: identity, windows, order. Does no input or output,
//! so that the hostile host can be played in tests.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

/// What each direction of a stream starts with.
pub const INITIAL_WINDOW: u32 = 256 * 1024;
/// What a window never grows past.
pub const MAX_WINDOW: u32 = 1024 * 1024;
/// Streams open at one time.
pub const MAX_STREAMS: usize = 256;
/// Credit is returned in steps of this, not byte by byte.
const GRANT_STEP: u32 = 64 * 1024;

/// How the host broke the protocol.
#[derive(Debug, PartialEq, Eq)]
pub enum MuxError {
    WindowExceeded(u32),
    WindowOverflow(u32),
    DataAfterClose(u32),
    StreamLimit,
    StreamReused(u32),
}

impl MuxError {
    /// Its name in schema/agent-protocol.json.
    pub fn name(&self) -> &'static str {
        match self {
            Self::WindowExceeded(_) | Self::DataAfterClose(_) => "WINDOW_EXCEEDED",
            Self::WindowOverflow(_) => "WINDOW_OVERFLOW",
            Self::StreamLimit => "STREAM_LIMIT",
            Self::StreamReused(_) => "STREAM_REUSED",
        }
    }
}

impl fmt::Display for MuxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WindowExceeded(stream) => write!(f, "data past the window of stream {stream}"),
            Self::WindowOverflow(stream) => {
                write!(f, "the window of stream {stream} grows past {MAX_WINDOW}")
            }
            Self::DataAfterClose(stream) => write!(f, "data behind the close of stream {stream}"),
            Self::StreamLimit => write!(f, "more than {MAX_STREAMS} streams"),
            Self::StreamReused(stream) => write!(f, "stream {stream} was used before"),
        }
    }
}

/// One open stream.
pub struct Stream {
    /// Bytes the host sent that were not yet written on.
    pub incoming: VecDeque<u8>,
    /// The host will send nothing more.
    pub host_closed: bool,
    /// We will send nothing more.
    pub guest_closed: bool,
    /// Bytes we may send.
    credit: u32,
    /// Bytes the host may send.
    granted: u32,
    /// Bytes written on whose credit was not yet returned.
    owed: u32,
}

impl Stream {
    /// Bytes we may send now.
    pub fn credit(&self) -> usize {
        if self.guest_closed { 0 } else { self.credit as usize }
    }

    /// Notes that `length` bytes were sent.
    pub fn sent(&mut self, length: usize) {
        self.credit = self.credit.saturating_sub(length as u32);
    }

    /// Notes that `length` bytes left `incoming`; the credit to return to the host now, if any.
    pub fn consumed(&mut self, length: usize) -> Option<u32> {
        self.owed += length as u32;
        if self.host_closed || (self.owed < GRANT_STEP && self.granted > 0) || self.owed == 0 {
            return None;
        }
        let grant = std::mem::take(&mut self.owed);
        self.granted += grant;
        Some(grant)
    }
}

/// All streams of a session.
#[derive(Default)]
pub struct Mux {
    streams: BTreeMap<u32, Stream>,
    /// Ids only grow, so that none is used twice.
    highest: u32,
}

impl Mux {
    /// Opens streams the host chose; all of them come after all that were.
    pub fn open(&mut self, ids: &[u32]) -> Result<(), MuxError> {
        if self.streams.len() + ids.len() > MAX_STREAMS {
            return Err(MuxError::StreamLimit);
        }
        let before = self.highest;
        for id in ids {
            if *id <= before || self.streams.contains_key(id) {
                return Err(MuxError::StreamReused(*id));
            }
            self.highest = self.highest.max(*id);
            let stream = Stream {
                incoming: VecDeque::new(),
                host_closed: false,
                guest_closed: false,
                credit: INITIAL_WINDOW,
                granted: INITIAL_WINDOW,
                owed: 0,
            };
            self.streams.insert(*id, stream);
        }
        Ok(())
    }

    /// An open stream.
    pub fn get(&mut self, id: u32) -> Option<&mut Stream> {
        self.streams.get_mut(&id)
    }

    /// An open stream, to look at.
    pub fn peek(&self, id: u32) -> Option<&Stream> {
        self.streams.get(&id)
    }

    /// Forgets a stream.
    pub fn remove(&mut self, id: u32) {
        self.streams.remove(&id);
    }

    /// Takes data of the host; false when nobody knows the stream and a reset is due.
    pub fn data(&mut self, id: u32, payload: &[u8]) -> Result<bool, MuxError> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(false);
        };
        if stream.host_closed {
            return Err(MuxError::DataAfterClose(id));
        }
        let length = payload.len() as u32;
        stream.granted = stream.granted.checked_sub(length).ok_or(MuxError::WindowExceeded(id))?;
        stream.incoming.extend(payload);
        Ok(true)
    }

    /// Takes a window of the host.
    pub fn window(&mut self, id: u32, more: u32) -> Result<(), MuxError> {
        let Some(stream) = self.streams.get_mut(&id) else {
            return Ok(());
        };
        match stream.credit.checked_add(more) {
            Some(credit) if credit <= MAX_WINDOW => stream.credit = credit,
            _ => return Err(MuxError::WindowOverflow(id)),
        }
        Ok(())
    }

    /// Takes a close of the host.
    pub fn close(&mut self, id: u32) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.host_closed = true;
        }
    }
}
