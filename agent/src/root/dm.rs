//! Device mapper by its ioctls (linux/dm-ioctl.h): one target per device, read-only.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use zeroize::Zeroizing;

/// sizeof(struct dm_ioctl), sizeof(struct dm_target_spec).
const HEADER: usize = 312;
const TARGET: usize = 40;
/// Offsets in struct dm_ioctl.
const DATA_SIZE: usize = 12;
const DATA_START: usize = 16;
const TARGET_COUNT: usize = 20;
const FLAGS: usize = 28;
const DEV: usize = 40;
const NAME: usize = 48;

const READONLY: u32 = 1;
/// The kernel wipes its copy of the table, which may hold a key.
const SECURE_DATA: u32 = 1 << 15;

const DEV_CREATE: u8 = 3;
const DEV_SUSPEND: u8 = 6;
const TABLE_LOAD: u8 = 9;
const TABLE_STATUS: u8 = 12;

/// Why a device cannot be made.
#[derive(Debug)]
pub enum DmError {
    Control(std::io::Error),
    Command { what: &'static str, device: &'static str, errno: Errno },
}

impl fmt::Display for DmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(error) => write!(f, "cannot open the device mapper: {error}"),
            Self::Command { what, device, errno } => write!(f, "cannot {what} {device}: {}", errno.desc()),
        }
    }
}

/// One mapped device.
pub struct DeviceMapper {
    control: File,
    name: &'static str,
    minor: u64,
}

impl DeviceMapper {
    /// Makes a device of one target over `sectors` of 512 bytes.
    pub fn create(name: &'static str, target: &str, sectors: u64, table: Vec<u8>) -> Result<Self, DmError> {
        let table = Zeroizing::new(table);
        let control =
            OpenOptions::new().read(true).write(true).open("/dev/mapper/control").map_err(DmError::Control)?;
        let mut device = Self { control, name, minor: 0 };
        let mut create = request(name, READONLY, 0);
        device.command(DEV_CREATE, "create", &mut create)?;
        let dev = number(&create, DEV);
        device.minor = (dev & 0xff) | ((dev >> 12) & 0xfff00);
        let length = HEADER + TARGET + table.len() + 1;
        let mut load = request(name, READONLY | SECURE_DATA, length.next_multiple_of(8) - HEADER);
        put(&mut load, TARGET_COUNT, &1u32.to_le_bytes());
        put(&mut load, HEADER + 8, &sectors.to_le_bytes());
        put(&mut load, HEADER + 24, target.as_bytes());
        put(&mut load, HEADER + TARGET, &table);
        device.command(TABLE_LOAD, "load the table of", &mut load)?;
        device.command(DEV_SUSPEND, "start", &mut request(name, 0, 0))?;
        Ok(device)
    }

    /// Its node.
    pub fn path(&self) -> String {
        format!("/dev/dm-{}", self.minor)
    }

    /// Whether a verity device met a block that does not match; a status that cannot be read counts as that.
    pub fn is_corrupted(&self) -> bool {
        let mut status = request(self.name, 0, 512);
        if self.command(TABLE_STATUS, "ask", &mut status).is_err() {
            return true;
        }
        status.get(HEADER + TARGET) != Some(&b'V')
    }

    fn command(&self, number: u8, what: &'static str, request: &mut Zeroizing<Vec<u8>>) -> Result<(), DmError> {
        // _IOWR(0xfd, number, struct dm_ioctl)
        let code = 0xC138_FD00 | libc::c_ulong::from(number);
        // SAFETY: the buffer is as long as its data_size says, which is all the kernel reads and writes.
        let result = unsafe { libc::ioctl(self.control.as_raw_fd(), code, request.as_mut_ptr()) };
        if result < 0 { Err(DmError::Command { what, device: self.name, errno: Errno::last() }) } else { Ok(()) }
    }
}

fn request(name: &str, flags: u32, extra: usize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(vec![0; HEADER + extra]);
    let size = bytes.len() as u32;
    put(&mut bytes, 0, &4u32.to_le_bytes());
    put(&mut bytes, DATA_SIZE, &size.to_le_bytes());
    put(&mut bytes, DATA_START, &(HEADER as u32).to_le_bytes());
    put(&mut bytes, FLAGS, &flags.to_le_bytes());
    put(&mut bytes, NAME, name.as_bytes());
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at + value.len()) {
        place.copy_from_slice(value);
    }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    if let Some(field) = bytes.get(at..at + 8) {
        raw.copy_from_slice(field);
    }
    u64::from_le_bytes(raw)
}
