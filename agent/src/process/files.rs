//! Files the guest writes into the container, by code that runs inside it: a link leads nowhere else.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// Makes a directory and those above it, 0755, root's.
pub fn make_directory(path: &str) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|m| m.is_dir()) {
        return Ok(());
    }
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Replaces a file (or link) by one with this content; the directory above is made where it is missing.
pub fn replace_file(path: &str, content: &[u8], mode: u32) -> io::Result<()> {
    if let Some(above) = Path::new(path).parent().and_then(Path::to_str) {
        make_directory(above)?;
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?.write_all(content)
}

/// Makes sure something is there to mount on: a directory, or an empty file.
pub fn make_target(path: &str, file: bool) -> io::Result<()> {
    if !file {
        return make_directory(path);
    }
    if fs::metadata(path).is_ok_and(|m| !m.is_dir()) {
        return Ok(());
    }
    replace_file(path, b"", 0o644)
}
