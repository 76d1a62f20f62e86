//! What the manifest grants (schema/grants.vectors.json): a refusal names the line to change.

use crate::manifest::{Manifest, MountGrant};
use crate::protocol::message::{Exec, MountPoint, Run};

/// Something the manifest does not grant.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    pub key: &'static str,
    pub reason: String,
}

fn refuse(key: &'static str, reason: String) -> Refusal {
    Refusal { key, reason }
}

/// Whether `*` in the pattern, standing for any characters, can make it the text. Linear in both.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let (middle, tail) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(mut left) = text.strip_prefix(head).and_then(|t| t.strip_suffix(tail)) else {
        return false;
    };
    for part in middle.split('*') {
        let Some(at) = left.find(part) else {
            return false;
        };
        left = left.get(at + part.len()..).unwrap_or_default();
    }
    true
}

/// Whether one of the grants covers the whole argument list.
pub fn grants_argv<S: AsRef<str>>(grants: &[Vec<String>], argv: &[S]) -> bool {
    grants.iter().any(|grant| {
        let (fixed, open) = match grant.split_last() {
            Some((last, fixed)) if last == "**" => (fixed, true),
            _ => (grant.as_slice(), false),
        };
        let long_enough = if open { argv.len() >= fixed.len() } else { argv.len() == fixed.len() };
        long_enough && fixed.iter().zip(argv).all(|(pattern, text)| matches(pattern, text.as_ref()))
    })
}

/// Whether a variable may be set: a name, or a prefix followed by `*`.
pub fn grants_variable(grants: &[String], name: &str) -> bool {
    grants.iter().any(|grant| match grant.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => grant == name,
    })
}

/// Whether a mount may be made: its target as written, writable only where that is granted.
pub fn grants_mount(grants: &[MountGrant], target: &str, read_only: bool) -> bool {
    grants.iter().any(|grant| grant.target == target && (read_only || !grant.read_only))
}

/// Checks what the host asks of the main process.
pub fn check_run(manifest: &Manifest, run: &Run) -> Result<(), Refusal> {
    let allow = &manifest.allow;
    if let Some(args) = &run.args
        && !grants_argv(&allow.args, args)
    {
        return Err(refuse("allow.args", format!("the arguments {} are not granted", list(args))));
    }
    check_env(&allow.env, &run.env)?;
    check_terminal(manifest, run.stdin, run.tty)?;
    for MountPoint { target, read_only, .. } in &run.mounts {
        if !grants_mount(&allow.mounts, target, *read_only) {
            let how = if *read_only { "read-only" } else { "writable" };
            return Err(refuse("allow.mounts", format!("a {how} mount at {target:?} is not granted")));
        }
    }
    Ok(())
}

/// Checks one more process.
pub fn check_exec(manifest: &Manifest, exec: &Exec) -> Result<(), Refusal> {
    if !grants_argv(&manifest.allow.exec, &exec.argv) {
        return Err(refuse("allow.exec", format!("running {} is not granted", list(&exec.argv))));
    }
    check_env(&manifest.allow.env, &exec.env)?;
    check_terminal(manifest, exec.stdin, exec.tty)
}

fn check_env(grants: &[String], env: &[String]) -> Result<(), Refusal> {
    for entry in env {
        let name = entry.split('=').next().unwrap_or_default();
        if !grants_variable(grants, name) {
            return Err(refuse("allow.env", format!("the variable {name:?} is not granted")));
        }
    }
    Ok(())
}

fn check_terminal(manifest: &Manifest, stdin: bool, tty: bool) -> Result<(), Refusal> {
    if stdin && !manifest.allow.stdin {
        return Err(refuse("allow.stdin", "standard input is not granted".to_owned()));
    }
    if tty && !manifest.allow.tty {
        return Err(refuse("allow.tty", "a terminal is not granted".to_owned()));
    }
    Ok(())
}

/// An argument list for a person: quoted, and cut where it gets long.
fn list(argv: &[String]) -> String {
    let mut text = argv.iter().map(|a| format!("{a:?}")).collect::<Vec<_>>().join(" ");
    if text.len() > 500 {
        text = format!("{}…", crate::protocol::message::clip(&text, 500));
    }
    if text.is_empty() { "(none)".to_owned() } else { text }
}
