//! A root inside the initrd: measured with it, so a loop device is all it takes.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;

use nix::errno::Errno;

use crate::failure::Failure;

const FILE: &str = "/root.squashfs";
/// linux/loop.h
const LOOP_CTL_GET_FREE: libc::c_ulong = 0x4C82;
const LOOP_SET_FD: libc::c_ulong = 0x4C00;

/// Opens the image; the path of its block device.
pub fn open(size: u64) -> Result<String, Failure> {
    let file = File::open(FILE).map_err(|e| Failure::new("ROOT_MISSING", format_args!("cannot open {FILE}: {e}")))?;
    let have = file.metadata().map_or(0, |m| m.len());
    if have < size {
        return Err(Failure::new("ROOT_MISMATCH", format_args!("{FILE} has {have} bytes, not {size}")));
    }
    let fail = |what: &str, e: &dyn std::fmt::Display| Failure::guest(format_args!("{what}: {e}"));
    let control = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/loop-control")
        .map_err(|e| fail("cannot open /dev/loop-control", &e))?;
    // SAFETY: LOOP_CTL_GET_FREE takes no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    if number < 0 {
        return Err(fail("no loop device", &Errno::last()));
    }
    let path = format!("/dev/loop{number}");
    let device = File::open(&path).map_err(|e| fail("cannot open the loop device", &e))?;
    // SAFETY: LOOP_SET_FD takes a descriptor, which is open.
    if unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_FD, file.as_raw_fd()) } < 0 {
        return Err(fail("cannot attach the loop device", &Errno::last()));
    }
    Ok(path)
}
