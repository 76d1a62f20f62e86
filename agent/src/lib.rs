//! The guest agent: process 1 of a sealed guest (docs/agent-protocol.md).

pub mod protocol;
pub mod grants;
pub mod manifest;
pub mod session;
pub mod failure;
pub mod machine;
pub mod root;
pub mod process;
pub mod boot;
pub mod panic;
pub mod attest;
pub mod entropy;
mod filter;
mod network;
mod secrets;
