//! Process 1 of a sealed guest.
#![no_main]

use std::os::fd::AsRawFd;

use nix::sys::signal::{SigHandler, Signal, signal};
use shelter_agent::machine::kernel::power_off;

/// The program starts here and not at a Rust `main`: with the kernel's console off, 0, 1 and 2 are closed, and
/// the standard library's own start would abort when it finds no `/dev/null` to put there.
// SAFETY: the C library calls `main` once, with one thread, and no other symbol of this program has that name.
#[unsafe(no_mangle)]
pub extern "C" fn main() -> i32 {
    if nix::unistd::getpid().as_raw() != 1 {
        println!("shelter-agent {} runs as process 1 of a guest", env!("CARGO_PKG_VERSION"));
        return 2;
    }
    shelter_agent::panic::install();
    open_standard_descriptors();
    for ignored in [Signal::SIGPIPE, Signal::SIGINT] {
        // SAFETY: ignoring a signal runs no code of ours.
        if let Err(errno) = unsafe { signal(ignored, SigHandler::SigIgn) } {
            eprintln!("shelter-agent: {errno}");
        }
    }
    if let Err(failure) = shelter_agent::boot::run() {
        eprintln!("shelter-agent: {failure}");
    }
    power_off();
    1
}

/// The kernel's console is off, so 0, 1 and 2 may be closed; no pipe of ours must ever get such a number.
fn open_standard_descriptors() {
    loop {
        // The initrd has no /dev/null before devtmpfs is mounted; its root directory always opens.
        match std::fs::File::open("/") {
            Ok(file) if file.as_raw_fd() <= 2 => std::mem::forget(file),
            _ => return,
        }
    }
}
