//! Frames and messages against schema/agent-protocol.json and its examples.

#![allow(clippy::unwrap_used, clippy::undocumented_unsafe_blocks)]

mod support;

use serde_json::Value;
use shelter_agent::protocol::frame::{Decoder, Frame, Kind, header};
use shelter_agent::protocol::message::{FromHost, ToHost};
use support::{Random, read_json, rounds, unhex};

fn kind(name: &str) -> Kind {
    match name {
        "control" => Kind::Control,
        "data" => Kind::Data,
        "window" => Kind::Window,
        "close" => Kind::Close,
        "reset" => Kind::Reset,
        _ => panic!("{name}"),
    }
}

fn decode(bytes: &[u8], chunk: usize) -> Result<Vec<Frame>, &'static str> {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for part in bytes.chunks(chunk) {
        decoder.push(part);
        while let Some(frame) = decoder.next_frame().map_err(|e| e.name())? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

#[test]
fn frames_are_those_of_the_schema() {
    let vectors = read_json("../schema/agent-protocol.vectors.json");
    for case in vectors["frames"].as_array().unwrap() {
        let bytes = unhex(case["bytes"].as_str().unwrap());
        let expected: Vec<Frame> = case["frames"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| Frame {
                kind: kind(f["kind"].as_str().unwrap()),
                stream: f["stream"].as_u64().unwrap() as u32,
                payload: unhex(f["payload"].as_str().unwrap()),
            })
            .collect();
        for chunk in [1, 2, 7, 9, 1 << 20] {
            assert_eq!(decode(&bytes, chunk).as_ref(), Ok(&expected), "{}", case["name"]);
        }
        let encoded: Vec<u8> = expected
            .iter()
            .flat_map(|f| [header(f.kind, f.stream, f.payload.len()).to_vec(), f.payload.clone()].concat())
            .collect();
        assert!(bytes.starts_with(&encoded), "{}", case["name"]);
    }
    for case in vectors["refusedFrames"].as_array().unwrap() {
        let bytes = unhex(case["bytes"].as_str().unwrap());
        for chunk in [1, 9, 1 << 20] {
            assert_eq!(decode(&bytes, chunk), Err(case["error"].as_str().unwrap()), "{}", case["name"]);
        }
    }
}

#[test]
fn bounds_are_those_of_the_schema() {
    let schema = read_json("../schema/agent-protocol.json");
    for (name, bounds) in schema["frame"]["kinds"].as_object().unwrap() {
        let (min, max) = (bounds["min"].as_u64().unwrap() as usize, bounds["max"].as_u64().unwrap() as usize);
        let stream = u32::from(name != "control");
        let accepts = |length: usize| {
            let mut decoder = Decoder::default();
            decoder.push(&header(kind(name), stream, length));
            decoder.next_frame().is_ok()
        };
        assert!(accepts(min) && accepts(max), "{name}");
        assert!(!accepts(max + 1), "{name} of {} bytes", max + 1);
        assert!(min == 0 || !accepts(min - 1), "{name} of {} bytes", min - 1);
    }
    use shelter_agent::session::{endpoint, mux};
    let limits = &schema["limits"];
    assert_eq!(limits["initialWindow"], mux::INITIAL_WINDOW);
    assert_eq!(limits["maxWindow"], mux::MAX_WINDOW);
    assert_eq!(limits["maxStreams"], mux::MAX_STREAMS);
    assert_eq!(limits["maxFuseMessage"], endpoint::MAX_FUSE);
}

#[test]
fn messages_of_the_host_are_those_of_the_schema() {
    let vectors = read_json("../schema/agent-protocol.vectors.json");
    for message in vectors["messages"]["host"].as_array().unwrap() {
        FromHost::parse(message.to_string().as_bytes()).unwrap_or_else(|e| panic!("{message}: {e}"));
    }
    for case in vectors["refusedMessages"]["host"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        match FromHost::parse(text.as_bytes()) {
            Ok(message) => panic!("{}: taken as {message:?}", case["name"]),
            Err(error) => assert_eq!(error.name(), case["error"].as_str().unwrap(), "{}", case["name"]),
        }
    }
}

#[test]
fn what_the_guest_says_is_what_the_schema_shows() {
    let vectors = read_json("../schema/agent-protocol.vectors.json");
    let shown = vectors["messages"]["guest"].as_array().unwrap();
    let said = [
        ToHost::Hello,
        ToHost::Step { step: "manifest", ms: 1234 },
        ToHost::Http { id: 1, method: "POST", path: "/kbs/v0/auth", cookie: None, body: Some(b"{}") },
        ToHost::Http {
            id: 2,
            method: "GET",
            path: "/kbs/v0/resource/default/key/app",
            cookie: Some("kbs-session-id=0a"),
            body: None,
        },
        ToHost::Started { process: 1 },
        ToHost::ExitCode { process: 1, code: 0 },
        ToHost::ExitCode { process: 1, code: 255 },
        ToHost::ExitSignal { process: 7, signal: 9 },
        ToHost::Refused { process: 2, reason: "exec of ls is not granted", key: "allow.exec" },
        ToHost::Failed {
            code: "MANIFEST_MISMATCH",
            message: "the manifest's digest is not the measured one",
            step: "manifest",
        },
        ToHost::Bye,
    ];
    for message in said {
        let value: Value = serde_json::from_slice(&message.encode()).unwrap();
        assert!(shown.contains(&value), "{value}");
    }
}

#[test]
fn long_words_of_the_guest_are_cut_at_a_character() {
    let reason = "ü".repeat(5000);
    let message = ToHost::Refused { process: 1, reason: &reason, key: "allow.args" }.encode();
    let value: Value = serde_json::from_slice(&message).unwrap();
    assert_eq!(value["reason"].as_str().unwrap().len(), 4096);
    let message = ToHost::Failed { code: "X", message: &format!("x{reason}"), step: "root" }.encode();
    let value: Value = serde_json::from_slice(&message).unwrap();
    assert_eq!(value["message"].as_str().unwrap().len(), 8191);
}

#[test]
fn chunks_do_not_matter_and_noise_does_no_harm() {
    let mut random = Random::new("frames");
    for _ in 0..rounds(3000) {
        let mut bytes = Vec::new();
        for _ in 0..random.below(6) {
            let length = *random.pick(&[0, 1, 2, 4, 5, 256, 257, 1000]);
            let kind = *random.pick(&[Kind::Control, Kind::Data, Kind::Window, Kind::Close, Kind::Reset]);
            bytes.extend(header(kind, random.below(3) as u32, length));
            bytes.extend(random.bytes(length));
        }
        if random.below(3) == 0 && !bytes.is_empty() {
            let at = random.below(bytes.len());
            bytes[at] ^= 1 << random.below(8);
        }
        let whole = decode(&bytes, 1 << 20);
        assert_eq!(whole, decode(&bytes, 1 + random.below(11)));
    }
}

#[test]
fn altered_messages_are_refused_or_parsed_and_never_more() {
    let vectors = read_json("../schema/agent-protocol.vectors.json");
    let seeds: Vec<Vec<u8>> =
        vectors["messages"]["host"].as_array().unwrap().iter().map(|m| m.to_string().into_bytes()).collect();
    let mut random = Random::new("messages");
    for _ in 0..rounds(20_000) {
        let mut text = random.pick(&seeds).clone();
        for _ in 0..1 + random.below(4) {
            let at = random.below(text.len());
            match random.below(4) {
                0 => text[at] = random.next() as u8,
                1 => drop(text.remove(at)),
                2 => text.insert(at, *random.pick(b"{}[]\",:0-9.eE\\u")),
                _ => {
                    let part = text[at..(at + 8).min(text.len())].to_vec();
                    text.splice(at..at, part);
                }
            }
            if text.is_empty() {
                break;
            }
        }
        if let Ok(FromHost::Boot(boot)) = FromHost::parse(&text) {
            assert!(boot.run.env.iter().all(|e| e.contains('=') && !e.contains('\0')));
            assert!(boot.run.mounts.iter().all(|m| !m.target.split('/').any(|p| p == "..")));
        }
    }
}
