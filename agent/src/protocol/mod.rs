//! The agent protocol (docs/agent-protocol.md): frames, control messages and the JSON they are written in.

pub mod frame;
pub mod json;
pub mod message;
