//! The guest agent: process 1 of a sealed guest (docs/agent-protocol.md).

pub mod attest;
pub mod boot;
pub mod entropy;
pub mod failure;
mod filter;
pub mod grants;
pub mod machine;
pub mod manifest;
mod network;
pub mod panic;
pub mod process;
pub mod protocol;
pub mod root;
mod secrets;
pub mod session;
