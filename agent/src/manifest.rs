//! The manifest (docs/formats.md): what this guest may do. Trusted once its digest is the measured one.

use std::fmt;

use serde_json::Value;

use crate::protocol::json::{self, JsonError, Members};
use crate::protocol::message::is_plain_path;

const MAX_DEPTH: usize = 16;
const MAX_LIST: usize = 4096;
const MAX_STRING: usize = 131_071;

/// Why a manifest is refused.
#[derive(Debug)]
pub enum ManifestError {
    Malformed(JsonError),
    Version(u64),
    Unsupported(String),
}

impl ManifestError {
    /// Its name in schema/agent-protocol.json.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "MANIFEST_MALFORMED",
            Self::Version(_) | Self::Unsupported(_) => "MANIFEST_UNSUPPORTED",
        }
    }
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => write!(f, "manifest: {error}"),
            Self::Version(version) => write!(f, "manifest: version {version} is not 1"),
            Self::Unsupported(what) => write!(f, "manifest: {what}"),
        }
    }
}

impl From<JsonError> for ManifestError {
    fn from(error: JsonError) -> Self {
        Self::Malformed(error)
    }
}

/// Who the process runs as.
#[derive(Clone, Debug)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

/// What runs when nothing else is asked for.
#[derive(Debug)]
pub struct Process {
    pub entrypoint: Vec<String>,
    pub cmd: Vec<String>,
    pub env: Vec<String>,
    pub cwd: String,
    pub user: User,
}

/// A mount the host may ask for.
#[derive(Debug)]
pub struct MountGrant {
    pub target: String,
    pub read_only: bool,
}

/// What the host may ask for.
#[derive(Debug)]
pub struct Allow {
    pub args: Vec<Vec<String>>,
    pub env: Vec<String>,
    pub exec: Vec<Vec<String>>,
    pub stdin: bool,
    pub tty: bool,
    pub mounts: Vec<MountGrant>,
}

/// Where a secret goes.
#[derive(Clone, Debug)]
pub enum Place {
    File { path: String, mode: u32, uid: u32, gid: u32 },
    Env(String),
}

/// A secret to fetch from the broker.
#[derive(Clone, Debug)]
pub struct Secret {
    pub uri: String,
    pub place: Place,
}

/// Parameters of the hash tree.
#[derive(Debug)]
pub struct Verity {
    pub root_hash: String,
    pub salt: String,
    pub data_blocks: u64,
    pub hash_size: u64,
}

/// The root file system.
#[derive(Debug)]
pub struct Root {
    pub squashfs_size: u64,
    /// None for shape `initrd`, which is measured whole.
    pub verity: Option<Verity>,
    /// Read all of it through verity before anything is proved.
    pub check_whole: bool,
    /// URI of the disk key.
    pub key: Option<String>,
}

/// The whole manifest.
#[derive(Debug)]
pub struct Manifest {
    pub process: Process,
    pub allow: Allow,
    pub secrets: Vec<Secret>,
    pub ports: Vec<u16>,
    pub outbound: bool,
    pub writable: u64,
    pub capabilities: Vec<String>,
    pub root: Root,
}

impl Manifest {
    /// Parses the exact bytes whose digest was measured.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        let mut m = Members::of("", json::parse(bytes, MAX_DEPTH)?)?;
        let version = m.integer("version", 0, u64::from(u32::MAX))?;
        if version != 1 {
            return Err(ManifestError::Version(version));
        }
        let mut network = m.object("network")?;
        let outbound = network.boolean("outbound")?;
        network.end()?;
        let mut resources = m.object("resources")?;
        resources.integer("memory", 0, u64::MAX)?;
        resources.integer("cpus", 1, 4096)?;
        let writable = resources.integer("writable", 0, 1 << 50)?;
        resources.end()?;
        let manifest = Self {
            process: parse_process(m.object("process")?)?,
            allow: parse_allow(m.object("allow")?)?,
            secrets: parse_secrets(&mut m)?,
            ports: parse_ports(&mut m)?,
            outbound,
            writable,
            capabilities: m.texts("capabilities", 64, 1, 64)?,
            root: parse_root(m.object("root")?)?,
        };
        m.end()?;
        Ok(manifest)
    }
}

fn parse_process(mut p: Members) -> Result<Process, JsonError> {
    let entrypoint = p.texts("entrypoint", MAX_LIST, 0, MAX_STRING)?;
    let cmd = p.texts("cmd", MAX_LIST, 0, MAX_STRING)?;
    let env = p.texts("env", MAX_LIST, 1, MAX_STRING)?;
    if !env.iter().all(|entry| entry.find('=').is_some_and(|at| at > 0)) {
        return Err(p.refuse("env", "a list of NAME=VALUE"));
    }
    let cwd = p.string("cwd", 1, 4096)?;
    if !cwd.starts_with('/') || cwd.contains('\0') {
        return Err(p.refuse("cwd", "an absolute path"));
    }
    let mut u = p.object("user")?;
    let user = User { uid: id(&mut u, "uid")?, gid: id(&mut u, "gid")?, groups: parse_groups(&mut u)? };
    u.end()?;
    p.end()?;
    Ok(Process { entrypoint, cmd, env, cwd, user })
}

/// A user or group number; the highest means "unchanged" to the kernel and is none.
fn id(m: &mut Members, key: &str) -> Result<u32, JsonError> {
    let number = m.u32(key, 0)?;
    if number == u32::MAX { Err(m.refuse(key, "a user or group number")) } else { Ok(number) }
}

fn parse_groups(u: &mut Members) -> Result<Vec<u32>, JsonError> {
    let items = u.array("groups", 1024)?;
    items
        .iter()
        .map(|item| {
            let number = item.as_u64().and_then(|n| u32::try_from(n).ok()).filter(|n| *n != u32::MAX);
            number.ok_or_else(|| u.refuse("groups", "a list of group numbers"))
        })
        .collect()
}

fn parse_allow(mut a: Members) -> Result<Allow, JsonError> {
    let allow = Allow {
        args: parse_grants(&mut a, "args")?,
        env: a.texts("env", MAX_LIST, 1, 4096)?,
        exec: parse_grants(&mut a, "exec")?,
        stdin: a.boolean("stdin")?,
        tty: a.boolean("tty")?,
        mounts: parse_mount_grants(&mut a)?,
    };
    a.end()?;
    Ok(allow)
}

fn parse_grants(a: &mut Members, key: &'static str) -> Result<Vec<Vec<String>>, JsonError> {
    let mut grants = Vec::new();
    for item in a.array(key, MAX_LIST)? {
        grants.push(match item {
            // "*" for a whole grant is any argument list.
            Value::String(text) if text == "*" => vec!["**".to_owned()],
            Value::Array(patterns) => patterns
                .into_iter()
                .map(|pattern| match pattern {
                    Value::String(text) if text.len() <= MAX_STRING => Ok(text),
                    _ => Err(a.refuse(key, "a list of argument patterns")),
                })
                .collect::<Result<_, _>>()?,
            _ => return Err(a.refuse(key, "a list of grants")),
        });
    }
    Ok(grants)
}

fn parse_mount_grants(a: &mut Members) -> Result<Vec<MountGrant>, JsonError> {
    let mut grants = Vec::new();
    for item in a.array("mounts", 256)? {
        let mut m = Members::of("allow.mounts", item)?;
        let target = m.string("target", 1, 4096)?;
        if !is_plain_path(&target) {
            return Err(m.refuse("target", "an absolute path without . and .."));
        }
        grants.push(MountGrant { target, read_only: m.boolean("readOnly")? });
        m.end()?;
    }
    Ok(grants)
}

fn parse_secrets(m: &mut Members) -> Result<Vec<Secret>, JsonError> {
    let mut secrets = Vec::new();
    for item in m.array("secrets", 256)? {
        let mut s = Members::of("secrets", item)?;
        let uri = parse_uri(&mut s, "uri")?;
        let place = match (s.has("file"), s.has("env")) {
            (true, false) => {
                let path = s.string("file", 1, 4096)?;
                if !is_plain_path(&path) {
                    return Err(s.refuse("file", "an absolute path without . and .."));
                }
                let mode = if s.has("mode") { s.integer("mode", 0, 0o777)? as u32 } else { 0o400 };
                let uid = if s.has("uid") { id(&mut s, "uid")? } else { 0 };
                let gid = if s.has("gid") { id(&mut s, "gid")? } else { 0 };
                Place::File { path, mode, uid, gid }
            }
            (false, true) => {
                let name = s.string("env", 1, 4096)?;
                if name.contains('=') || name.contains('\0') {
                    return Err(s.refuse("env", "a variable name"));
                }
                Place::Env(name)
            }
            _ => return Err(s.refuse("file", "given exactly when env is not")),
        };
        s.end()?;
        secrets.push(Secret { uri, place });
    }
    Ok(secrets)
}

/// `kbs:///repository/type/tag`, the segments as the broker's path takes them.
fn parse_uri(m: &mut Members, key: &str) -> Result<String, JsonError> {
    let uri = m.string(key, 1, 1000)?;
    let segments: Vec<&str> = uri.strip_prefix("kbs:///").unwrap_or_default().split('/').collect();
    let plain = |s: &&str| {
        let name = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        s.bytes().next().is_some_and(name) && s.bytes().all(|b| name(b) || b == b'.')
    };
    if segments.len() == 3 && segments.iter().all(plain) {
        Ok(uri)
    } else {
        Err(m.refuse(key, "kbs:///repository/type/tag"))
    }
}

fn parse_ports(m: &mut Members) -> Result<Vec<u16>, JsonError> {
    let items = m.array("ports", 1024)?;
    items
        .iter()
        .map(|item| {
            let port = item.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|n| *n > 0);
            port.ok_or_else(|| m.refuse("ports", "a list of ports"))
        })
        .collect()
}

fn parse_root(mut r: Members) -> Result<Root, ManifestError> {
    let shape = r.string("shape", 1, 16)?;
    let mut s = r.object("squashfs")?;
    let squashfs_size = s.integer("size", 1, 1 << 50)?;
    s.string("digest", 71, 71)?;
    s.end()?;
    let verity = if r.has("verity") {
        let mut v = r.object("verity")?;
        let verity = Verity {
            root_hash: hex(&mut v, "rootHash")?,
            salt: hex(&mut v, "salt")?,
            data_blocks: v.integer("dataBlocks", 1, 1 << 38)?,
            hash_size: v.integer("hashSize", 8192, 1 << 50)?,
        };
        v.end()?;
        if verity.data_blocks != squashfs_size.div_ceil(4096) {
            return Err(v_refuse("verity.dataBlocks does not cover the squashfs"));
        }
        Some(verity)
    } else {
        None
    };
    let check_whole = if verity.is_some() {
        match r.string("check", 1, 16)?.as_str() {
            "whole" => true,
            "lazy" => false,
            _ => return Err(v_refuse("root.check is neither whole nor lazy")),
        }
    } else {
        false
    };
    let key = if r.has("encryption") {
        let mut e = r.object("encryption")?;
        let key = parse_uri(&mut e, "key")?;
        let cipher = e.string("cipher", 1, 64)?;
        let sector = e.integer("sectorSize", 0, 1 << 20)?;
        e.end()?;
        if cipher != "aes-xts-plain64" || sector != 4096 {
            return Err(v_refuse("encryption is not aes-xts-plain64 with sectors of 4096 bytes"));
        }
        Some(key)
    } else {
        None
    };
    r.end()?;
    match (shape.as_str(), &verity, &key) {
        ("disk", Some(_), _) | ("initrd", None, None) => Ok(Root { squashfs_size, verity, check_whole, key }),
        ("disk", None, _) => Err(v_refuse("shape disk needs root.verity")),
        ("initrd", _, _) => Err(v_refuse("shape initrd has neither root.verity nor root.encryption")),
        _ => Err(v_refuse("root.shape is neither disk nor initrd")),
    }
}

fn v_refuse(what: &str) -> ManifestError {
    ManifestError::Unsupported(what.to_owned())
}

/// 64 lower-case hexadecimal digits.
fn hex(m: &mut Members, key: &str) -> Result<String, JsonError> {
    let text = m.string(key, 64, 64)?;
    if text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(text)
    } else {
        Err(m.refuse(key, "64 lower-case hexadecimal digits"))
    }
}
