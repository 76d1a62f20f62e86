//! A whole session over a socket: real pipes and processes on one side, a host on the other that is patient,
//! slow or hostile.

#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

mod support;

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use shelter_agent::failure::Failure;
use shelter_agent::manifest::Manifest;
use shelter_agent::protocol::frame::{Decoder, Frame, Kind, header};
use shelter_agent::protocol::message::Streams;
use shelter_agent::session::Session;
use shelter_agent::session::channel::Channel;
use shelter_agent::session::launcher::{Launched, Launcher, Spec};
use support::{Random, manifest, rounds};

/// Starts processes as they are, in no container.
struct Plain {
    children: Vec<i32>,
    corrupted: bool,
    /// Readable once it is ready.
    delay: Option<OwnedFd>,
}

impl Launcher for Plain {
    fn ready_fd(&self) -> Option<BorrowedFd<'_>> {
        self.delay.as_ref().map(AsFd::as_fd)
    }
    fn ready(&mut self) -> Result<(), Failure> {
        self.delay = None;
        Ok(())
    }
    fn launch(&mut self, spec: &Spec) -> Result<Launched, Failure> {
        let mut child = Command::new(&spec.argv[0])
            .args(&spec.argv[1..])
            .stdin(if spec.stdin { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Failure::guest)?;
        let pid = child.id() as i32;
        self.children.push(pid);
        let pidfd = unsafe { OwnedFd::from_raw_fd(libc::syscall(libc::SYS_pidfd_open, pid, 0) as i32) };
        let ours = |fd: OwnedFd| {
            unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
            fd
        };
        Ok(Launched {
            pid,
            pidfd,
            status: Some(OwnedFd::from(std::io::pipe().map_err(Failure::guest)?.0)),
            stdin: child.stdin.take().map(|p| ours(p.into())),
            stdout: child.stdout.take().map(|p| ours(p.into())),
            stderr: child.stderr.take().map(|p| ours(p.into())),
            pty: None,
        })
    }
    fn end(&mut self) {
        for pid in &self.children {
            unsafe { libc::kill(*pid, libc::SIGKILL) };
        }
    }
    fn check(&mut self) -> Result<(), Failure> {
        if self.corrupted { Err(Failure::new("ROOT_CORRUPTED", "altered")) } else { Ok(()) }
    }
}

/// The host's end.
struct Host {
    socket: UnixStream,
    /// Two threads of a test may write, but not into each other's frames.
    writer: Arc<Mutex<UnixStream>>,
    decoder: Decoder,
}

fn send(writer: &Mutex<UnixStream>, kind: Kind, stream: u32, payload: &[u8]) {
    let frame = [&header(kind, stream, payload.len()), payload].concat();
    writer.lock().unwrap().write_all(&frame).unwrap();
}

impl Host {
    fn send(&mut self, kind: Kind, stream: u32, payload: &[u8]) {
        send(&self.writer, kind, stream, payload);
    }
    fn say(&mut self, message: &Value) {
        self.send(Kind::Control, 0, message.to_string().as_bytes());
    }
    /// The next frame; none at the end.
    fn next(&mut self) -> Option<Frame> {
        let mut buffer = [0; 65536];
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            match self.socket.read(&mut buffer) {
                Ok(0) => return None,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
                Ok(length) => self.decoder.push(&buffer[..length]),
            }
        }
    }
    /// The next control message, past everything else.
    fn message(&mut self) -> Value {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("the guest ended"));
            if frame.kind == Kind::Control {
                return serde_json::from_slice(&frame.payload).unwrap();
            }
        }
    }
    /// Collects a stream until its process ends, granting what was read.
    fn collect(&mut self, stream: u32, process: u32) -> (Vec<u8>, Value) {
        let mut bytes = Vec::new();
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("the guest ended"));
            match frame.kind {
                Kind::Data if frame.stream == stream => {
                    let more = frame.payload.len() as u32;
                    bytes.extend(frame.payload);
                    self.send(Kind::Window, stream, &more.to_le_bytes());
                }
                Kind::Control => {
                    let message: Value = serde_json::from_slice(&frame.payload).unwrap();
                    if message["type"] == "exit" && message["process"] == process {
                        return (bytes, message);
                    }
                }
                _ => {}
            }
        }
    }
}

type Ended = thread::JoinHandle<Result<(), String>>;

/// A session whose main process is `argv`, on streams 1, 2 and 3.
fn start(argv: &[&str], stdin: bool, corrupted: bool) -> (Host, Ended) {
    start_late(argv, stdin, corrupted, Duration::ZERO)
}

/// The same, with a container that takes its time.
fn start_late(argv: &[&str], stdin: bool, corrupted: bool, delay: Duration) -> (Host, Ended) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    ours.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    ours.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    theirs.set_nonblocking(true).unwrap();
    let argv: Vec<String> = argv.iter().map(|a| (*a).to_owned()).collect();
    let guest = thread::spawn(move || {
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        let mut session = Session::new(Channel::new(theirs.into()));
        let mut document = manifest();
        document["allow"]["exec"] = json!([["**"]]);
        let manifest = Manifest::parse(document.to_string().as_bytes()).unwrap();
        session.open(&[1, 2, 3]).unwrap();
        let (ready, tell) = std::io::pipe().unwrap();
        let delay = (!delay.is_zero()).then(|| {
            thread::spawn(move || {
                thread::sleep(delay);
                drop(tell);
            });
            ready.into()
        });
        let launcher = Plain { children: Vec::new(), corrupted, delay };
        session.equip(manifest, vec!["SECRET=s".to_owned()], Box::new(launcher), Vec::new());
        let spec = Spec { argv, env: Vec::new(), tty: false, size: None, stdin };
        let result = session.run(&spec, Streams { stdin: 1, stdout: 2, stderr: 3 });
        if result.is_err() {
            // What a guest does by powering off.
            session.equip(
                Manifest::parse(document.to_string().as_bytes()).unwrap(),
                Vec::new(),
                Box::new(Plain { children: Vec::new(), corrupted, delay: None }),
                Vec::new(),
            );
        } else {
            session.farewell();
        }
        result.map_err(|f| f.to_string())
    });
    (Host { writer: Arc::new(Mutex::new(ours.try_clone().unwrap())), socket: ours, decoder: Decoder::default() }, guest)
}

#[test]
fn bytes_come_back_identical_under_flow_control() {
    let (mut host, guest) = start(&["cat"], true, false);
    let data = Random::new("cat").bytes(3 << 20);
    let writer = host.writer.clone();
    let sent = data.clone();
    let (grants, granted) = std::sync::mpsc::channel::<u32>();
    let feeder = thread::spawn(move || {
        let mut window = 256 * 1024;
        let mut rest = &sent[..];
        while !rest.is_empty() {
            if window == 0 {
                window = granted.recv().unwrap() as usize;
            }
            let (now, later) = rest.split_at(rest.len().min(window).min(65536));
            send(&writer, Kind::Data, 1, now);
            window -= now.len();
            rest = later;
        }
        send(&writer, Kind::Close, 1, b"");
    });
    let mut received = Vec::new();
    let code = loop {
        let frame = host.next().unwrap();
        match frame.kind {
            Kind::Data => {
                let more = frame.payload.len() as u32;
                received.extend(frame.payload);
                host.send(Kind::Window, 2, &more.to_le_bytes());
            }
            Kind::Window => {
                let _ = grants.send(u32::from_le_bytes(frame.payload.try_into().unwrap()));
            }
            Kind::Control => {
                let message: Value = serde_json::from_slice(&frame.payload).unwrap();
                if message["type"] == "exit" {
                    break message["code"].clone();
                }
            }
            _ => {}
        }
    };
    feeder.join().unwrap();
    assert_eq!(code, 0);
    assert!(received == data, "{} of {} bytes", received.len(), data.len());
    assert_eq!(host.message()["type"], "bye");
    host.say(&json!({ "type": "bye" }));
    assert_eq!(guest.join().unwrap(), Ok(()));
}

#[test]
fn a_slow_reader_blocks_nobody_else_and_gets_its_window_at_most() {
    let (mut host, guest) = start(&["yes"], false, false);
    assert_eq!(host.message()["type"], "step");
    assert_eq!(host.message()["type"], "started");
    let mut seen = 0;
    while seen < 256 * 1024 {
        let frame = host.next().unwrap();
        assert_eq!((frame.kind, frame.stream), (Kind::Data, 2));
        seen += frame.payload.len();
    }
    assert_eq!(seen, 256 * 1024);
    host.say(&json!({
        "type": "exec", "process": 2, "argv": ["echo", "still here"], "env": [], "tty": false, "stdin": false,
        "streams": { "stdin": 4, "stdout": 5, "stderr": 6 },
    }));
    let (bytes, exit) = host.collect(5, 2);
    assert_eq!((bytes.as_slice(), &exit["code"]), (&b"still here\n"[..], &json!(0)));
    host.send(Kind::Reset, 2, b"enough");
    let exit = host.message();
    // `yes` dies of the broken pipe, or is told of it.
    assert!(exit["signal"] == 13 || exit["code"] == 1, "{exit}");
    assert_eq!(host.message()["type"], "bye");
    host.say(&json!({ "type": "bye" }));
    assert_eq!(guest.join().unwrap(), Ok(()));
}

#[test]
fn input_that_ends_before_the_process_runs_is_read_and_ends() {
    let (mut host, guest) = start_late(&["cat"], true, false, Duration::from_millis(200));
    host.send(Kind::Data, 1, b"early");
    host.send(Kind::Close, 1, b"");
    let (bytes, exit) = host.collect(2, 1);
    assert_eq!((bytes.as_slice(), &exit["code"]), (&b"early"[..], &json!(0)));
    host.say(&json!({ "type": "bye" }));
    assert_eq!(guest.join().unwrap(), Ok(()));
}

#[test]
fn an_altered_root_ends_the_run_whatever_the_program_says() {
    let (_host, guest) = start(&["true"], false, true);
    assert_eq!(guest.join().unwrap(), Err("ROOT_CORRUPTED: altered".to_owned()));
}

#[test]
fn a_broken_rule_ends_the_session_with_its_name() {
    let more = |n: u32| n.to_le_bytes().to_vec();
    let control = |v: Value| (Kind::Control, 0, v.to_string().into_bytes());
    let connect = |stream: u32| control(json!({ "type": "connect", "stream": stream, "port": 1 }));
    let exec = |process: u32, stream: u32| {
        control(json!({
            "type": "exec", "process": process, "argv": ["sleep", "9"], "env": [], "tty": false, "stdin": false,
            "streams": { "stdin": stream, "stdout": stream + 1, "stderr": stream + 2 },
        }))
    };
    let block = vec![7; 65536];
    let past: Vec<_> = (0..5).map(|_| (Kind::Data, 2, block.clone())).collect();
    type Frames = Vec<(Kind, u32, Vec<u8>)>;
    let cases: Vec<(&str, Frames)> = vec![
        ("WINDOW_OVERFLOW", vec![(Kind::Window, 2, more(1024 * 1024))]),
        ("WINDOW_OVERFLOW", vec![(Kind::Window, 2, more(u32::MAX)); 2]),
        ("WINDOW_EXCEEDED", past),
        ("WINDOW_EXCEEDED", vec![(Kind::Close, 2, vec![]), (Kind::Data, 2, vec![1])]),
        ("STREAM_REUSED", vec![exec(2, 3)]),
        ("STREAM_REUSED", vec![connect(9), connect(9)]),
        ("STREAM_REUSED", vec![connect(9), connect(8)]),
        ("CONTROL_UNEXPECTED", vec![exec(2, 10), exec(2, 20)]),
        ("CONTROL_UNEXPECTED", vec![control(json!({ "type": "http-error", "id": 1, "message": "" }))]),
        ("CONTROL_MALFORMED", vec![(Kind::Control, 0, b"[]".to_vec())]),
        ("CONTROL_UNKNOWN", vec![control(json!({ "type": "shell" }))]),
        ("FRAME_STREAM_INVALID", vec![(Kind::Data, 0, vec![1])]),
    ];
    for (name, frames) in cases {
        let (mut host, guest) = start(&["sleep", "5"], false, false);
        for (kind, stream, payload) in frames {
            host.send(kind, stream, &payload);
        }
        let error = guest.join().unwrap().err().unwrap_or_default();
        assert!(error.starts_with(&format!("PROTOCOL_ERROR: {name}: ")), "{name}: {error}");
    }
}

#[test]
fn what_nobody_knows_is_no_error() {
    let (mut host, guest) = start(&["sleep", "20"], false, false);
    host.send(Kind::Data, 77, b"x");
    host.send(Kind::Window, 77, &[1, 0, 0, 0]);
    host.send(Kind::Close, 77, b"");
    host.send(Kind::Reset, 77, b"");
    host.say(&json!({ "type": "signal", "process": 9, "signal": 9 }));
    host.say(&json!({ "type": "resize", "process": 9, "rows": 1, "cols": 1 }));
    host.say(&json!({ "type": "connect", "stream": 80, "port": 1 }));
    host.say(&json!({ "type": "stop", "timeout": 10 }));
    let mut resets = Vec::new();
    let exit = loop {
        let frame = host.next().unwrap();
        match frame.kind {
            Kind::Reset => resets.push((frame.stream, String::from_utf8(frame.payload).unwrap())),
            Kind::Control => {
                let message: Value = serde_json::from_slice(&frame.payload).unwrap();
                if message["type"] == "exit" {
                    break message;
                }
            }
            _ => {}
        }
    };
    assert_eq!(exit["signal"], 15);
    let expected = [(77, "no such stream".to_owned()), (80, "ports: 1 is not granted".to_owned())];
    assert_eq!(resets, expected);
    assert_eq!(host.message()["type"], "bye");
    host.say(&json!({ "type": "bye" }));
    assert_eq!(guest.join().unwrap(), Ok(()));
}

#[test]
fn a_host_that_never_listens_is_not_heard_either() {
    let (mut host, guest) = start(&["sleep", "9"], false, false);
    host.socket.set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    // Each of these is answered with a reset. The guest stops reading before its answers fill its memory.
    let frame = [&header(Kind::Data, 99, 1)[..], b"x"].concat();
    let batch = frame.repeat(6000);
    let mut written = 0;
    while written < 64 << 20 {
        match host.socket.write(&batch) {
            Ok(length) => written += length,
            Err(_) => break,
        }
    }
    assert!(written < 16 << 20, "the guest took {written} bytes");
    drop(host);
    assert!(guest.join().unwrap().is_err());
}

#[test]
fn a_random_host_does_no_harm() {
    let mut random = Random::new("session");
    for round in 0..rounds(60) {
        let (mut host, guest) = start(&["cat"], true, false);
        let mut next = 4u32;
        for _ in 0..random.below(60) {
            let stream = random.below(next as usize + 2) as u32;
            let frame = match random.below(12) {
                0..=3 => {
                    let length = 1 + random.below(3000);
                    [&header(Kind::Data, stream, length)[..], &random.bytes(length)].concat()
                }
                4 => [&header(Kind::Window, stream, 4)[..], &(random.below(300_000) as u32).to_le_bytes()].concat(),
                5 => header(Kind::Close, stream, 0).to_vec(),
                6 => header(Kind::Reset, stream, 0).to_vec(),
                _ => {
                    let message = match random.below(5) {
                        0 => {
                            json!({ "type": "signal", "process": random.below(4) + 1, "signal": 1 + random.below(64) })
                        }
                        1 => json!({ "type": "resize", "process": 1, "rows": 1, "cols": 2 }),
                        2 => json!({ "type": "connect", "stream": next, "port": random.below(65535) + 1 }),
                        3 => json!({ "type": "stop", "timeout": random.below(2) }),
                        _ => json!({
                            "type": "exec", "process": 2 + random.below(70), "argv": ["cat"], "env": [],
                            "tty": false, "stdin": random.below(2) == 0,
                            "streams": { "stdin": next, "stdout": next + 1, "stderr": next + 2 },
                        }),
                    };
                    next += 3;
                    let text = message.to_string();
                    [&header(Kind::Control, 0, text.len())[..], text.as_bytes()].concat()
                }
            };
            if host.socket.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = host.socket.shutdown(std::net::Shutdown::Both);
        drop(host);
        assert!(guest.join().is_ok(), "round {round}");
    }
}
