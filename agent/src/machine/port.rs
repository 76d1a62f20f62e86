//! The way to the host: the virtio-serial port `shelter.0`, or vsock where there is none.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, VsockAddr, connect, socket};

use super::modules::{Modules, Need};
use crate::failure::Failure;

const PORT_NAME: &str = "shelter.0";
const VSOCK_HOST: u32 = 2;
const VSOCK_PORT: u32 = 4321;
/// virtio device ids (virtio 1.2, section 5).
const VIRTIO_CONSOLE: &str = "0x0003";
/// How long a port may take to appear, and the host to listen.
const PATIENCE: Duration = Duration::from_secs(30);

/// Opens the channel, in non-blocking mode.
pub fn open(modules: &mut Modules) -> Result<OwnedFd, Failure> {
    let until = Instant::now() + PATIENCE;
    if has_console() {
        loop {
            if let Some(port) = find_port() {
                return wait_connected(port, until);
            }
            if Instant::now() > until {
                return Err(Failure::guest("the console device has no port shelter.0"));
            }
            sleep(Duration::from_millis(1));
        }
    }
    modules.load(Need::Vsock)?;
    let fd = socket(AddressFamily::Vsock, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|e| Failure::guest(format_args!("no port shelter.0 and no vsock: {e}")))?;
    connect(fd.as_raw_fd(), &VsockAddr::new(VSOCK_HOST, VSOCK_PORT))
        .map_err(|e| Failure::guest(format_args!("cannot reach the host over vsock: {e}")))?;
    // SAFETY: F_SETFL on a descriptor we own, with a plain flag.
    unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    Ok(fd)
}

fn has_console() -> bool {
    let Ok(devices) = fs::read_dir("/sys/bus/virtio/devices") else {
        return false;
    };
    devices.flatten().any(|d| fs::read_to_string(d.path().join("device")).is_ok_and(|id| id.trim() == VIRTIO_CONSOLE))
}

fn find_port() -> Option<File> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        if fs::read_to_string(entry.path().join("name")).is_ok_and(|name| name.trim() == PORT_NAME) {
            let path = format!("/dev/{}", entry.file_name().to_string_lossy());
            return OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(path).ok();
        }
    }
    None
}

/// A port whose other end nobody holds reports a hang-up.
fn wait_connected(port: File, until: Instant) -> Result<OwnedFd, Failure> {
    let fd = OwnedFd::from(port);
    while Instant::now() < until {
        let mut set = [PollFd::new(std::os::fd::AsFd::as_fd(&fd), PollFlags::POLLOUT)];
        let ready = poll(&mut set, PollTimeout::from(100u8));
        let events = set[0].revents().unwrap_or(PollFlags::empty());
        if ready.is_ok() && events.contains(PollFlags::POLLOUT) && !events.contains(PollFlags::POLLHUP) {
            return Ok(fd);
        }
        sleep(Duration::from_millis(1));
    }
    Err(Failure::guest("the host does not listen at port shelter.0"))
}
