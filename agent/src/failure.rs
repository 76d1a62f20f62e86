//! Why the guest cannot go on: a name of schema/agent-protocol.json and a sentence.

use std::fmt;

/// The content of a `failed` message.
#[derive(Debug)]
pub struct Failure {
    pub code: &'static str,
    pub message: String,
}

impl Failure {
    /// A failure with its reason.
    pub fn new(code: &'static str, reason: impl fmt::Display) -> Self {
        Self { code, message: escape(&reason.to_string()) }
    }

    /// The guest's own set-up failed.
    pub fn guest(reason: impl fmt::Display) -> Self {
        Self::new("GUEST_FAILED", reason)
    }

    /// The host broke the protocol, which `name` says.
    pub fn protocol(name: &str, reason: impl fmt::Display) -> Self {
        Self::new("PROTOCOL_ERROR", format_args!("{name}: {reason}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

/// Text that may come from outside, fit for a terminal: control characters are spelled out.
pub fn escape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c) {
            plain.extend(c.escape_default());
        } else {
            plain.push(c);
        }
    }
    plain
}
