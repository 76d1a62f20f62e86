//! The host's disks, found by serial. Nothing they say about themselves is believed but their size.

use std::fs;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// How long a disk may take to appear.
const PATIENCE: Duration = Duration::from_millis(1000);

/// A block device.
pub struct Disk {
    serial: &'static str,
    /// `major:minor`, as the device mapper takes it.
    pub number: String,
    size: u64,
}

impl Disk {
    /// Refuses a disk that is too short for what was sealed.
    pub fn at_least(&self, size: u64) -> Result<(), Failure> {
        if self.size < size {
            let Self { serial, size: have, .. } = self;
            return Err(Failure::new("ROOT_MISMATCH", format_args!("disk {serial} has {have} bytes, not {size}")));
        }
        Ok(())
    }
}

/// The disk with a serial.
pub fn find(serial: &'static str) -> Result<Disk, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(disk) = look_for(serial) {
            return Ok(disk);
        }
        if Instant::now() > until {
            return Err(Failure::new("ROOT_MISSING", format_args!("there is no disk with serial {serial}")));
        }
        sleep(Duration::from_millis(2));
    }
}

fn look_for(serial: &'static str) -> Option<Disk> {
    for entry in fs::read_dir("/sys/block").ok()?.flatten() {
        let read = |name: &str| fs::read_to_string(entry.path().join(name)).ok();
        if read("serial").is_some_and(|s| s.trim() == serial) {
            let number = read("dev")?.trim().to_owned();
            let sectors: u64 = read("size")?.trim().parse().ok()?;
            return Some(Disk { serial, number, size: sectors.saturating_mul(512) });
        }
    }
    None
}
