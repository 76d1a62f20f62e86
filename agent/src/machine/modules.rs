//! Kernel modules from `/modules`, in the order of `/modules/order`, each when it is first needed.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};

use nix::errno::Errno;
use nix::kmod::{ModuleInitFlags, finit_module};

use crate::failure::Failure;

/// What a module is for. Loading takes time under emulation, so what a run does not need stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    Always,
    Vsock,
    Disk,
    /// Vector instructions for SHA-256.
    WideDigest,
    Crypt,
    Initrd,
    Mounts,
    Network,
}

/// Modules that not every run needs; those not listed here load first.
const NEEDS: [(&str, Need); 24] = [
    ("vsock", Need::Vsock),
    ("vmw_vsock_virtio_transport_common", Need::Vsock),
    ("vmw_vsock_virtio_transport", Need::Vsock),
    ("virtio_blk", Need::Disk),
    ("dm_mod", Need::Disk),
    ("dm_bufio", Need::Disk),
    ("reed_solomon", Need::Disk),
    ("dm_verity", Need::Disk),
    ("sha256_ssse3", Need::WideDigest),
    ("dm_crypt", Need::Crypt),
    ("xts", Need::Crypt),
    ("ecb", Need::Crypt),
    ("cryptd", Need::Crypt),
    ("crypto_simd", Need::Crypt),
    ("aesni_intel", Need::Crypt),
    ("trusted", Need::Crypt),
    ("encrypted_keys", Need::Crypt),
    ("asn1_encoder", Need::Crypt),
    ("tee", Need::Crypt),
    ("loop", Need::Initrd),
    ("fuse", Need::Mounts),
    ("failover", Need::Network),
    ("net_failover", Need::Network),
    ("virtio_net", Need::Network),
];

/// The modules of this guest.
pub struct Modules {
    order: Vec<String>,
    loaded: BTreeSet<Need>,
}

impl Modules {
    /// Reads the order.
    pub fn read() -> Result<Self, Failure> {
        let text = fs::read_to_string("/modules/order")
            .map_err(|e| Failure::guest(format_args!("cannot read /modules/order: {e}")))?;
        Ok(Self { order: text.split_whitespace().map(str::to_owned).collect(), loaded: BTreeSet::new() })
    }

    /// Loads what a need takes, once.
    pub fn load(&mut self, need: Need) -> Result<(), Failure> {
        if !self.loaded.insert(need) {
            return Ok(());
        }
        for file in &self.order {
            if need_of(file) == need {
                load_file(file)?;
            }
        }
        Ok(())
    }
}

fn need_of(file: &str) -> Need {
    let name = file.strip_suffix(".ko").unwrap_or(file).replace('-', "_");
    NEEDS.iter().find(|(known, _)| *known == name).map_or(Need::Always, |(_, need)| *need)
}

fn load_file(file: &str) -> Result<(), Failure> {
    let path = format!("/modules/{file}");
    let module = File::open(&path).map_err(|e| Failure::guest(format_args!("cannot open {path}: {e}")))?;
    match finit_module(&module, &CString::default(), ModuleInitFlags::empty()) {
        // ENODEV: it drives what this machine has not (AES instructions), and another one does the work.
        Ok(()) | Err(Errno::EEXIST | Errno::ENODEV) => Ok(()),
        Err(errno) => Err(Failure::guest(format_args!("cannot load {path}: {}", errno.desc()))),
    }
}
