//! The root file system: from two untrusted disks, or from the initrd, to one writable tree at `/root`.

mod disk;
mod dm;
mod image;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::mount::{MsFlags, mount};

use crate::failure::Failure;
use crate::machine::cpu::is_emulated;
use crate::machine::kernel::attach;
use crate::machine::modules::{Modules, Need};
use crate::manifest::{Manifest, Root, Verity};
pub use dm::DeviceMapper;

/// Where the container's root is put together.
pub const ROOT: &str = "/root";
/// What the guest itself writes: names, resolver, mount points.
const OWN_SPACE: u64 = 512 * 1024;
const SQUASHFS_MAGIC: &[u8; 4] = b"hsqs";
/// AES-256-XTS: two keys.
const KEY_SIZE: usize = 64;
const BLOCK: u64 = 4096;
/// A large request lets the kernel check many blocks at once.
const READ_SIZE: usize = 1 << 20;

/// The opened root; knows whether it was altered while it was read.
#[derive(Default)]
pub struct OpenRoot {
    /// The block device the file system, or its ciphertext, is read from.
    device: String,
    verity: Option<DeviceMapper>,
}

impl OpenRoot {
    /// Fails once a block was read that is not the one that was sealed.
    pub fn check(&self) -> Result<(), Failure> {
        match &self.verity {
            Some(verity) if verity.is_corrupted() => Err(corrupted()),
            _ => Ok(()),
        }
    }
}

fn corrupted() -> Failure {
    Failure::new("ROOT_CORRUPTED", "the root disk or its hash tree was altered: a block does not match the root hash")
}

/// Opens what the root is read from, and with `check: whole` reads all of it: a root with one altered byte is known
/// before anything is proved to anybody.
pub fn verify(modules: &mut Modules, manifest: &Manifest, measured: Option<&str>) -> Result<OpenRoot, Failure> {
    let root = &manifest.root;
    let mut open = OpenRoot::default();
    match &root.verity {
        Some(verity) => {
            if measured != Some(verity.root_hash.as_str()) {
                return Err(mismatch("the manifest's root hash is not the one on the kernel command line"));
            }
            // Before verity chooses: three times the speed on a processor, half of it on an emulated one.
            if !is_emulated() {
                modules.load(Need::WideDigest)?;
            }
            modules.load(Need::Disk)?;
            open.device = open_verity(verity, &mut open)?;
            if root.check_whole {
                read_whole(&open)?;
            }
        }
        None => {
            if measured.is_some() {
                return Err(mismatch("the kernel command line has a root hash and the manifest has none"));
            }
            modules.load(Need::Initrd)?;
            open.device = image::open(root.squashfs_size)?;
        }
    }
    Ok(open)
}

/// Mounts a verified root at `/root`. `key` is the disk key of an encrypted one.
pub fn enter(modules: &mut Modules, manifest: &Manifest, open: &OpenRoot, key: Option<&[u8]>) -> Result<(), Failure> {
    let root = &manifest.root;
    let device = match (&root.key, &root.verity, key) {
        (Some(_), Some(verity), Some(key)) => {
            modules.load(Need::Crypt)?;
            open_crypt(&open.device, verity, key)?
        }
        (Some(_), _, _) => {
            return Err(Failure::new("ROOT_KEY", "the root is encrypted and there is no key"));
        }
        (None, _, _) => open.device.clone(),
    };
    mount_root(&device, root, manifest.writable, open)
}

/// What is read here stays in the page cache, so that the program does not read it twice.
fn read_whole(open: &OpenRoot) -> Result<(), Failure> {
    let mut device = File::open(&open.device).map_err(|e| unreadable(open, &e))?;
    let mut buffer = vec![0; READ_SIZE];
    while device.read(&mut buffer).map_err(|e| unreadable(open, &e))? > 0 {}
    open.check()
}

fn mismatch(what: &str) -> Failure {
    Failure::new("ROOT_MISMATCH", what)
}

fn open_verity(verity: &Verity, open: &mut OpenRoot) -> Result<String, Failure> {
    let data = disk::find("shelter-root")?;
    let tree = disk::find("shelter-verity")?;
    data.at_least(verity.data_blocks * BLOCK)?;
    tree.at_least(verity.hash_size)?;
    let table = format!(
        "1 {} {} {BLOCK} {BLOCK} {} 1 sha256 {} {}",
        data.number, tree.number, verity.data_blocks, verity.root_hash, verity.salt
    );
    let device = DeviceMapper::create("shelter-verity", "verity", verity.data_blocks * 8, table.into_bytes())
        .map_err(|e| mismatch(&e.to_string()))?;
    let path = device.path();
    open.verity = Some(device);
    Ok(path)
}

fn open_crypt(device: &str, verity: &Verity, key: &[u8]) -> Result<String, Failure> {
    if key.len() != KEY_SIZE {
        let length = key.len();
        return Err(Failure::new("ROOT_KEY", format_args!("the disk key has {length} bytes, not {KEY_SIZE}")));
    }
    let mut table = b"aes-xts-plain64 ".to_vec();
    // Reserved at once, so that no copy of the key is left behind in memory that was given back.
    table.reserve(KEY_SIZE * 2 + 64);
    for byte in key {
        for digit in [byte >> 4, byte & 15] {
            table.push(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 });
        }
    }
    table.extend_from_slice(format!(" 0 {device} 0 2 sector_size:4096 iv_large_sectors").as_bytes());
    DeviceMapper::create("shelter-crypt", "crypt", verity.data_blocks * 8, table)
        .map(|d| d.path())
        .map_err(|e| Failure::new("ROOT_KEY", e))
}

fn mount_root(device: &str, root: &Root, writable: u64, open: &OpenRoot) -> Result<(), Failure> {
    let mut magic = [0; 4];
    File::open(device).and_then(|f| f.read_exact_at(&mut magic, 0)).map_err(|e| unreadable(open, &e))?;
    if &magic != SQUASHFS_MAGIC {
        return Err(match &root.key {
            Some(uri) => Failure::new("ROOT_KEY", format_args!("{uri} does not decrypt the root")),
            None => mismatch("the root is no squashfs"),
        });
    }
    let read_only = MsFlags::MS_RDONLY | MsFlags::MS_NODEV;
    attach(device, "/lower", "squashfs", read_only, None).map_err(|e| open.check().err().unwrap_or(e))?;
    let size = format!("size={},mode=0755", writable + OWN_SPACE);
    attach("shelter", "/upper", "tmpfs", MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(&size))?;
    for directory in ["/upper/data", "/upper/work", ROOT] {
        std::fs::create_dir_all(directory).map_err(|e| Failure::guest(format_args!("cannot make {directory}: {e}")))?;
    }
    copy_root_mode()?;
    let layers = "lowerdir=/lower,upperdir=/upper/data,workdir=/upper/work";
    mount(Some("shelter"), ROOT, Some("overlay"), MsFlags::MS_NODEV, Some(layers))
        .map_err(|e| Failure::guest(format_args!("cannot mount the overlay: {}", e.desc())))
}

/// The upper directory is the root's own inode: it takes over the image's owner and mode.
fn copy_root_mode() -> Result<(), Failure> {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
    let copy = || -> io::Result<()> {
        let from = std::fs::metadata("/lower")?;
        chown("/upper/data", Some(from.uid()), Some(from.gid()))?;
        std::fs::set_permissions("/upper/data", std::fs::Permissions::from_mode(from.mode() & 0o7777))
    };
    copy().map_err(|e| Failure::guest(format_args!("cannot prepare the overlay: {e}")))
}

fn unreadable(open: &OpenRoot, error: &io::Error) -> Failure {
    if let Err(failure) = open.check() {
        return failure;
    }
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
    Failure::new("ROOT_MISSING", format_args!("cannot read the root: {}", errno.desc()))
}
