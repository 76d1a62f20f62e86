//! Control messages: what the host says, parsed once; what the guest says, written.

use std::fmt;

use base64ct::{Base64, Encoding};
use serde_json::{Map, Value, json};

use super::json::{JsonError, Members, parse};

/// This protocol.
pub const PROTOCOL: u32 = 1;
const MAX_DEPTH: usize = 16;
const MAX_STRINGS: usize = 4096;
const MAX_STRING: usize = 131_071;
const MAX_MOUNTS: usize = 32;
const MAX_BODY: usize = 786_432;
const MAX_MANIFEST: usize = 262_144;

/// Rows and columns of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    pub rows: u16,
    pub cols: u16,
}

/// The streams of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Streams {
    pub stdin: u32,
    pub stdout: u32,
    pub stderr: u32,
}

/// A directory or file of the host, over FUSE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    pub target: String,
    pub read_only: bool,
    pub file: bool,
    pub stream: u32,
}

/// What the host asks of the main process.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub args: Option<Vec<String>>,
    pub env: Vec<String>,
    pub tty: bool,
    pub size: Option<Size>,
    pub stdin: bool,
    pub streams: Streams,
    pub mounts: Vec<MountPoint>,
    pub hostname: String,
}

/// The first message of the host.
#[derive(Debug, PartialEq, Eq)]
pub struct Boot {
    pub manifest: Vec<u8>,
    pub attest: bool,
    pub time: u64,
    pub run: Run,
}

/// One more process.
#[derive(Debug, PartialEq, Eq)]
pub struct Exec {
    pub process: u32,
    pub argv: Vec<String>,
    pub env: Vec<String>,
    pub tty: bool,
    pub size: Option<Size>,
    pub stdin: bool,
    pub streams: Streams,
}

/// What the host says.
#[derive(Debug, PartialEq, Eq)]
pub enum FromHost {
    Boot(Box<Boot>),
    HttpResponse { id: u32, status: u16, cookie: Option<String>, body: Vec<u8> },
    HttpError { id: u32, message: String },
    Exec(Box<Exec>),
    Signal { process: u32, signal: u8 },
    Resize { process: u32, size: Size },
    Connect { stream: u32, port: u16 },
    Stop { timeout: u32 },
    Bye,
}

/// Why a control message is refused; the session ends.
#[derive(Debug, PartialEq, Eq)]
pub enum MessageError {
    Malformed(JsonError),
    Unknown(String),
}

impl MessageError {
    /// Its name in schema/agent-protocol.json.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "CONTROL_MALFORMED",
            Self::Unknown(_) => "CONTROL_UNKNOWN",
        }
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "{error}"),
            Self::Unknown(kind) => {
                write!(f, "no message of the host is called {:?}", clip(kind, 64))
            }
        }
    }
}

impl From<JsonError> for MessageError {
    fn from(error: JsonError) -> Self {
        Self::Malformed(error)
    }
}

impl FromHost {
    /// Parses the payload of a control frame.
    pub fn parse(payload: &[u8]) -> Result<Self, MessageError> {
        let mut m = Members::of("", parse(payload, MAX_DEPTH)?)?;
        let kind = m.string("type", 0, 1024)?;
        let message = match kind.as_str() {
            "boot" => Self::Boot(Box::new(parse_boot(&mut m)?)),
            "http-response" => Self::HttpResponse {
                id: m.u32("id", 1)?,
                status: m.integer("status", 100, 599).map(|s| s as u16)?,
                cookie: m.optional_string("cookie", 1, 4096)?,
                body: m.bytes("body", MAX_BODY)?,
            },
            "http-error" => Self::HttpError { id: m.u32("id", 1)?, message: m.string("message", 0, 4096)? },
            "exec" => Self::Exec(Box::new(parse_exec(&mut m)?)),
            "signal" => {
                Self::Signal { process: m.u32("process", 1)?, signal: m.integer("signal", 1, 64).map(|s| s as u8)? }
            }
            "resize" => Self::Resize {
                process: m.u32("process", 1)?,
                size: Size { rows: m.u16("rows", 0)?, cols: m.u16("cols", 0)? },
            },
            "connect" => Self::Connect { stream: m.u32("stream", 1)?, port: m.u16("port", 1)? },
            "stop" => Self::Stop { timeout: m.integer("timeout", 0, 86_400).map(|s| s as u32)? },
            "bye" => Self::Bye,
            _ => return Err(MessageError::Unknown(kind)),
        };
        m.end()?;
        Ok(message)
    }
}

fn parse_boot(m: &mut Members) -> Result<Boot, JsonError> {
    let manifest = m.bytes("manifest", MAX_MANIFEST)?;
    if manifest.is_empty() {
        return Err(m.refuse("manifest", "a manifest"));
    }
    let attest = m.boolean("attest")?;
    let time = m.integer("time", 0, 253_402_300_799)?;
    let mut r = m.object("run")?;
    let args = match r.value("args")? {
        Value::Null => None,
        list @ Value::Array(_) => {
            let mut one = Members::of("run", Value::Object(Map::from_iter([("args".to_owned(), list)])))?;
            Some(one.texts("args", MAX_STRINGS, 0, MAX_STRING)?)
        }
        _ => return Err(r.refuse("args", "an array or null")),
    };
    let run = Run {
        args,
        env: parse_env(&mut r)?,
        tty: r.boolean("tty")?,
        size: parse_size(&mut r)?,
        stdin: r.boolean("stdin")?,
        streams: parse_streams(&mut r)?,
        mounts: parse_mounts(&mut r)?,
        hostname: r.string("hostname", 1, 64)?,
    };
    if !run.hostname.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)) {
        return Err(r.refuse("hostname", "a host name"));
    }
    r.end()?;
    Ok(Boot { manifest, attest, time, run })
}

fn parse_exec(m: &mut Members) -> Result<Exec, JsonError> {
    let exec = Exec {
        process: m.u32("process", 2)?,
        argv: m.texts("argv", MAX_STRINGS, 0, MAX_STRING)?,
        env: parse_env(m)?,
        tty: m.boolean("tty")?,
        size: parse_size(m)?,
        stdin: m.boolean("stdin")?,
        streams: parse_streams(m)?,
    };
    if exec.argv.is_empty() { Err(m.refuse("argv", "an argument list")) } else { Ok(exec) }
}

fn parse_env(m: &mut Members) -> Result<Vec<String>, JsonError> {
    let env = m.texts("env", MAX_STRINGS, 1, MAX_STRING)?;
    if env.iter().all(|entry| entry.find('=').is_some_and(|at| at > 0)) {
        Ok(env)
    } else {
        Err(m.refuse("env", "a list of NAME=VALUE"))
    }
}

fn parse_size(m: &mut Members) -> Result<Option<Size>, JsonError> {
    if !m.has("size") {
        return Ok(None);
    }
    let mut s = m.object("size")?;
    let size = Size { rows: s.u16("rows", 0)?, cols: s.u16("cols", 0)? };
    s.end()?;
    Ok(Some(size))
}

fn parse_streams(m: &mut Members) -> Result<Streams, JsonError> {
    let mut s = m.object("streams")?;
    let streams = Streams { stdin: s.u32("stdin", 1)?, stdout: s.u32("stdout", 1)?, stderr: s.u32("stderr", 1)? };
    s.end()?;
    let Streams { stdin, stdout, stderr } = streams;
    if stdin == stdout || stdin == stderr || stdout == stderr {
        return Err(m.refuse("streams", "three different streams"));
    }
    Ok(streams)
}

fn parse_mounts(m: &mut Members) -> Result<Vec<MountPoint>, JsonError> {
    let list = m.array("mounts", MAX_MOUNTS)?;
    let mut mounts = Vec::with_capacity(list.len());
    for item in list {
        let mut one = Members::of("run.mounts", item)?;
        let mount = MountPoint {
            target: one.string("target", 1, 4096)?,
            read_only: one.boolean("readOnly")?,
            file: if one.has("file") { one.boolean("file")? } else { false },
            stream: one.u32("stream", 1)?,
        };
        if !is_plain_path(&mount.target) {
            return Err(one.refuse("target", "an absolute path without . and .."));
        }
        one.end()?;
        mounts.push(mount);
    }
    Ok(mounts)
}

/// Whether a path is absolute, is not the root and has no part that climbs.
pub fn is_plain_path(path: &str) -> bool {
    path.starts_with('/')
        && !path.contains('\0')
        && path.split('/').any(|part| !part.is_empty())
        && path.split('/').all(|part| part != "." && part != "..")
}

/// What the guest says.
#[derive(Debug)]
pub enum ToHost<'a> {
    Hello,
    Step { step: &'a str, ms: u32 },
    Http { id: u32, method: &'a str, path: &'a str, cookie: Option<&'a str>, body: Option<&'a [u8]> },
    Started { process: u32 },
    ExitCode { process: u32, code: u8 },
    ExitSignal { process: u32, signal: u8 },
    Refused { process: u32, reason: &'a str, key: &'a str },
    Failed { code: &'a str, message: &'a str, step: &'a str },
    Bye,
}

impl ToHost<'_> {
    /// The payload of its control frame.
    pub fn encode(&self) -> Vec<u8> {
        let value = match *self {
            Self::Hello => json!({ "type": "hello", "protocol": PROTOCOL, "agent": env!("CARGO_PKG_VERSION") }),
            Self::Step { step, ms } => json!({ "type": "step", "step": step, "ms": ms }),
            Self::Http { id, method, path, cookie, body } => {
                let mut http = json!({ "type": "http", "id": id, "method": method, "path": path });
                if let Some(cookie) = cookie {
                    http["cookie"] = cookie.into();
                }
                if let Some(body) = body {
                    http["body"] = Base64::encode_string(body).into();
                }
                http
            }
            Self::Started { process } => json!({ "type": "started", "process": process }),
            Self::ExitCode { process, code } => json!({ "type": "exit", "process": process, "code": code }),
            Self::ExitSignal { process, signal } => json!({ "type": "exit", "process": process, "signal": signal }),
            Self::Refused { process, reason, key } => json!({
                "type": "refused", "process": process, "reason": clip(reason, 4096), "key": clip(key, 256),
            }),
            Self::Failed { code, message, step } => {
                json!({ "type": "failed", "code": code, "message": clip(message, 8192), "step": step })
            }
            Self::Bye => json!({ "type": "bye" }),
        };
        value.to_string().into_bytes()
    }
}

/// The longest beginning of `text` with at most `max` bytes.
pub fn clip(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}
