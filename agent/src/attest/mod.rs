//! Proves what was booted, and receives what only this guest may know.

mod broker;
mod endorsement;
pub mod evidence;
pub mod jwe;
pub mod marshal;
mod tpm;

pub use broker::{fetch, testify};
