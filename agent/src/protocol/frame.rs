//! Frames: `u32le payload length | u8 kind | u32le stream | payload`.

use std::fmt;

/// Bytes before a payload.
pub const HEADER: usize = 9;
/// A longer control message is refused from its header alone.
pub const MAX_CONTROL: usize = 1024 * 1024;
/// A longer data frame is refused from its header alone.
pub const MAX_DATA: usize = 64 * 1024;
/// A reset's reason.
pub const MAX_REASON: usize = 256;

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Control = 1,
    Data = 2,
    Window = 3,
    Close = 4,
    Reset = 5,
}

impl Kind {
    fn parse(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Control,
            2 => Self::Data,
            3 => Self::Window,
            4 => Self::Close,
            5 => Self::Reset,
            _ => return None,
        })
    }

    /// Shortest and longest payload.
    fn bounds(self) -> (usize, usize) {
        match self {
            Self::Control => (2, MAX_CONTROL),
            Self::Data => (1, MAX_DATA),
            Self::Window => (4, 4),
            Self::Close => (0, 0),
            Self::Reset => (0, MAX_REASON),
        }
    }
}

/// One whole frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub kind: Kind,
    pub stream: u32,
    pub payload: Vec<u8>,
}

/// Why bytes are not a frame; the session ends.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameError {
    Kind(u8),
    Length(Kind, usize),
    Stream(Kind, u32),
}

impl FrameError {
    /// Its name in schema/agent-protocol.json.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Kind(_) => "FRAME_KIND_UNKNOWN",
            Self::Length(..) => "FRAME_LENGTH_INVALID",
            Self::Stream(..) => "FRAME_STREAM_INVALID",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind(kind) => write!(f, "no frame has kind {kind}"),
            Self::Length(kind, length) => write!(f, "a {kind:?} frame of {length} bytes"),
            Self::Stream(kind, stream) => write!(f, "a {kind:?} frame on stream {stream}"),
        }
    }
}

/// Cuts a byte stream into frames. Holds at most one unfinished frame and what was pushed last.
#[derive(Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    start: usize,
}

impl Decoder {
    /// Adds bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or none yet.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let bytes = self.buffer.get(self.start..).unwrap_or_default();
        let Some((header, rest)) = bytes.split_first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let [l0, l1, l2, l3, kind, s0, s1, s2, s3] = *header;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        let stream = u32::from_le_bytes([s0, s1, s2, s3]);
        let kind = Kind::parse(kind).ok_or(FrameError::Kind(kind))?;
        let (shortest, longest) = kind.bounds();
        if length < shortest || length > longest {
            return Err(FrameError::Length(kind, length));
        }
        if (kind == Kind::Control) != (stream == 0) {
            return Err(FrameError::Stream(kind, stream));
        }
        let Some(payload) = rest.get(..length) else {
            return Ok(None);
        };
        let payload = payload.to_vec();
        self.start += HEADER + length;
        Ok(Some(Frame { kind, stream, payload }))
    }
}

/// The nine bytes before a payload of `length`.
pub fn header(kind: Kind, stream: u32, length: usize) -> [u8; HEADER] {
    let [l0, l1, l2, l3] = (length as u32).to_le_bytes();
    let [s0, s1, s2, s3] = stream.to_le_bytes();
    [l0, l1, l2, l3, kind as u8, s0, s1, s2, s3]
}
