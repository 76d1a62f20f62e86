//! The machine under the guest: kernel modules, devices, clock, power.

pub mod clock;
pub mod cmdline;
pub mod cpu;
pub mod kernel;
pub mod modules;
pub mod port;
