//! What several tests share.
#![allow(dead_code, clippy::unwrap_used)]

use serde_json::Value;

/// xorshift64*: the same numbers for the same seed everywhere.
pub struct Random(u64);

impl Random {
    /// A generator whose seed is printed, so that what it finds can be found again: SEED=n cargo test.
    pub fn new(what: &str) -> Self {
        let seed = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(|| {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
        });
        println!("{what}: SEED={seed}");
        Self(seed | 1)
    }
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() >> 33) as usize % bound
    }
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
    pub fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// How much a random test does: ROUNDS=n for a longer one.
pub fn rounds(few: usize) -> usize {
    std::env::var("ROUNDS").ok().and_then(|s| s.parse().ok()).unwrap_or(few)
}

pub fn read_json(path: &str) -> Value {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_slice(&std::fs::read(&path).unwrap_or_else(|e| panic!("{path}: {e}"))).unwrap()
}

pub fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

/// The manifest of docs/formats.md, made whole.
pub fn manifest() -> Value {
    let hex = "ab".repeat(32);
    serde_json::json!({
        "version": 1,
        "process": {
            "entrypoint": ["/bin/sh"], "cmd": ["-c", "true"], "env": ["PATH=/usr/bin:/bin"], "cwd": "/",
            "user": { "uid": 1000, "gid": 1000, "groups": [27] }
        },
        "allow": {
            "args": [["**"]], "env": ["A*"], "exec": [["ls", "**"]], "stdin": true, "tty": true,
            "mounts": [{ "target": "/data", "readOnly": true }]
        },
        "secrets": [
            { "uri": "kbs:///default/key/app", "file": "/run/secrets/key", "mode": 256, "uid": 1000, "gid": 1000 },
            { "uri": "kbs:///default/token/app", "env": "TOKEN" }
        ],
        "ports": [6379],
        "network": { "outbound": false },
        "resources": { "memory": 268_435_456, "cpus": 1, "writable": 67_108_864 },
        "capabilities": ["CAP_CHOWN"],
        "root": {
            "shape": "disk", "check": "whole",
            "squashfs": { "size": 4096, "digest": format!("sha256:{hex}") },
            "verity": { "rootHash": hex, "salt": hex, "dataBlocks": 1, "hashSize": 8192 },
            "encryption": { "key": "kbs:///default/disk-key/app", "cipher": "aes-xts-plain64", "sectorSize": 4096 }
        }
    })
}
