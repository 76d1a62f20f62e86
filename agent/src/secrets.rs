//! What the broker released, and where the manifest wants it.

use zeroize::Zeroizing;

use crate::attest;
use crate::failure::Failure;
use crate::manifest::{Manifest, Place};
use crate::process::SecretFile;
use crate::session::Session;

/// A variable's limit (MAX_ARG_STRLEN).
const MAX_VARIABLE: usize = 128 * 1024 - 1;

/// Everything the broker released to this guest.
#[derive(Default)]
pub struct Released {
    pub disk_key: Option<Zeroizing<Vec<u8>>>,
    pub files: Vec<SecretFile>,
    /// `NAME=VALUE`.
    pub variables: Vec<String>,
}

/// Attests where that is asked for or secrets are needed, and fetches them. With neither, nothing is asked.
pub fn obtain(
    session: &mut Session,
    manifest: &Manifest,
    attest: bool,
    step: &mut &'static str,
) -> Result<Released, Failure> {
    let mut uris: Vec<String> = manifest.root.key.iter().cloned().collect();
    uris.extend(manifest.secrets.iter().map(|secret| secret.uri.clone()));
    if uris.is_empty() && !attest {
        return Ok(Released::default());
    }
    let mut resources = attest::fetch(session, step, &uris)?.into_iter();
    let mut released = Released::default();
    if manifest.root.key.is_some() {
        released.disk_key = resources.next();
    }
    for (secret, content) in manifest.secrets.iter().zip(resources) {
        match &secret.place {
            Place::File { path, mode, uid, gid } => {
                released.files.push(SecretFile { path: path.clone(), mode: *mode, uid: *uid, gid: *gid, content });
            }
            Place::Env(name) => {
                let unusable = |why: &str| Failure::new("SECRET_UNUSABLE", format_args!("{}: {why}", secret.uri));
                let value = std::str::from_utf8(&content).map_err(|_| unusable("a variable holds only text"))?;
                if value.contains('\0') {
                    return Err(unusable("a variable holds no NUL"));
                }
                if name.len() + 1 + value.len() > MAX_VARIABLE {
                    return Err(unusable("it is too long for a variable"));
                }
                released.variables.push(format!("{name}={value}"));
            }
        }
    }
    Ok(released)
}
