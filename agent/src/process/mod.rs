//! The container: namespaces, a root with the usual mounts, and processes with no more rights than granted.

pub mod capability;
mod child;
mod container;
mod files;
mod rootfs;
pub mod seccomp;

pub use child::set_nonblocking;
pub use container::{Container, Plan, SecretFile};
