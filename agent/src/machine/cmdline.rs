//! The kernel command line: measured, and exactly what docs/formats.md says.

use std::fmt;

/// The words before the digests.
const FIXED: [&str; 5] = ["quiet", "panic=-1", "loglevel=1", "console=null", "cryptomgr.notests"];
/// What firmware that loads the initrd by itself leaves behind.
const FIRMWARE: &str = "initrd=initrd";

/// What the command line says.
#[derive(Debug, PartialEq, Eq)]
pub struct Cmdline {
    /// SHA-256 of the manifest, 64 hexadecimal digits.
    pub manifest: String,
    /// Root hash of the verity tree; none for shape `initrd`.
    pub root: Option<String>,
}

/// Why it is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum CmdlineError {
    Missing(&'static str),
    Unknown(String),
    Digest(&'static str),
}

impl fmt::Display for CmdlineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing(word) => write!(f, "the kernel command line has no {word} in its place"),
            Self::Unknown(word) => {
                write!(f, "the kernel command line has {word:?}, which no sealed image has")
            }
            Self::Digest(word) => write!(f, "{word} on the kernel command line is not 64 hexadecimal digits"),
        }
    }
}

impl Cmdline {
    /// Parses `/proc/cmdline`.
    pub fn parse(text: &str) -> Result<Self, CmdlineError> {
        let mut words = text.trim_end_matches('\n').split(' ').peekable();
        for expected in FIXED {
            match words.next() {
                Some(word) if word == expected => {}
                _ => return Err(CmdlineError::Missing(expected)),
            }
        }
        let manifest = digest(words.next(), "shelter.manifest")?.ok_or(CmdlineError::Missing("shelter.manifest"))?;
        let root = digest(words.next_if(|w| w.starts_with("shelter.root=")), "shelter.root")?;
        words.next_if_eq(&FIRMWARE);
        match words.next() {
            None => Ok(Self { manifest, root }),
            Some(word) => Err(CmdlineError::Unknown(word.chars().take(80).collect())),
        }
    }
}

fn digest(word: Option<&str>, name: &'static str) -> Result<Option<String>, CmdlineError> {
    let Some(word) = word else {
        return Ok(None);
    };
    let value = word.strip_prefix(name).and_then(|rest| rest.strip_prefix('=')).ok_or(CmdlineError::Missing(name))?;
    if value.len() == 64 && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        Ok(Some(value.to_owned()))
    } else {
        Err(CmdlineError::Digest(name))
    }
}
