//! The order of a boot (docs/agent-protocol.md).

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use sha2::{Digest, Sha256};

use crate::attest;
use crate::failure::Failure;
use crate::grants::check_run;
use crate::machine::clock::{set_if_unset, uptime_ms};
use crate::machine::cmdline::Cmdline;
use crate::machine::kernel::mount_basics;
use crate::machine::modules::{Modules, Need};
use crate::machine::port;
use crate::manifest::Manifest;
use crate::network;
use crate::process::capability::Capabilities;
use crate::process::{Container, Plan};
use crate::protocol::frame::Kind;
use crate::protocol::message::{Boot, FromHost, Run, ToHost};
use crate::root;
use crate::secrets;
use crate::session::channel::Channel;
use crate::session::launcher::Spec;
use crate::session::{Session, farewell, unexpected};

/// Boots, runs the main process and says goodbye. A failure before there is a channel has nobody to hear it.
pub fn run() -> Result<(), Failure> {
    mount_basics()?;
    let mut modules = Modules::read()?;
    modules.load(Need::Always)?;
    let mut channel = Channel::new(port::open(&mut modules)?);
    crate::panic::remember(channel.fd().as_fd());
    channel.say(&ToHost::Hello);
    let mut step = "modules";
    report(&mut channel, step);
    let mut session = Session::new(channel);
    if let Err(failure) = boot(&mut session, &mut modules, &mut step) {
        session.channel().say(&ToHost::Failed { code: failure.code, message: &failure.message, step });
    }
    farewell(session.channel());
    Ok(())
}

fn report(channel: &mut Channel, step: &str) {
    channel.say(&ToHost::Step { step, ms: uptime_ms() });
}

fn boot(session: &mut Session, modules: &mut Modules, step: &mut &'static str) -> Result<(), Failure> {
    *step = "manifest";
    let Boot { manifest: bytes, attest, time, run } = wait_boot(session)?;
    set_if_unset(time);
    let measured = read_measured(&bytes);
    let Measured { manifest, capabilities, root_hash } = testified(session, attest, measured)?;
    report(session.channel(), step);
    if let Err(refusal) = check_run(&manifest, &run) {
        session.channel().say(&ToHost::Refused { process: 1, reason: &refusal.reason, key: refusal.key });
        session.channel().say(&ToHost::Bye);
        return Ok(());
    }
    open_streams(session, &run)?;

    *step = "root";
    let verified = root::verify(modules, &manifest, root_hash.as_deref());
    let root = testified(session, attest, verified)?;
    report(session.channel(), step);
    let mut released = secrets::obtain(session, &manifest, attest, step)?;

    *step = "process";
    // Wiped before anything is forked: no copy of this process ever holds the disk's key.
    let key = released.disk_key.take();
    root::enter(modules, &manifest, &root, key.as_ref().map(|key| key.as_slice()))?;
    drop(key);
    network::loopback()?;
    if manifest.outbound {
        network::outbound(modules)?;
    }
    let (mounts, devices) = open_mounts(modules, &run)?;
    let spec = main_spec(&manifest, &run, &released.variables);
    let plan = Plan {
        hostname: run.hostname,
        resolver: manifest.outbound.then_some(network::RESOLVER),
        secrets: released.files,
        mounts,
        shut: manifest.writable == 0,
        cwd: manifest.process.cwd.clone(),
        user: manifest.process.user.clone(),
        capabilities,
    };
    let container = Container::start(root, plan)?;
    session.equip(manifest, released.variables, Box::new(container), devices);
    session.run(&spec, run.streams)
}

/// What the measured command line vouches for.
struct Measured {
    manifest: Manifest,
    capabilities: Capabilities,
    root_hash: Option<String>,
}

fn read_measured(bytes: &[u8]) -> Result<Measured, Failure> {
    let cmdline = fs::read_to_string("/proc/cmdline").map_err(Failure::guest)?;
    let cmdline = Cmdline::parse(&cmdline).map_err(|e| Failure::new("CMDLINE_REFUSED", e))?;
    let digest: String = Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect();
    if digest != cmdline.manifest {
        return Err(Failure::new(
            "MANIFEST_MISMATCH",
            format_args!("the manifest's digest is {digest}, the kernel command line says {}", cmdline.manifest),
        ));
    }
    let manifest = Manifest::parse(bytes).map_err(|e| Failure::new(e.code(), e))?;
    let capabilities = Capabilities::parse(&manifest.capabilities).map_err(|name| {
        Failure::new("MANIFEST_UNSUPPORTED", format_args!("manifest: no capability is called {name:?}"))
    })?;
    Ok(Measured { manifest, capabilities, root_hash: cmdline.root })
}

/// Passes a result on; a failure is told to the broker first, where there is one.
fn testified<T>(session: &mut Session, attest: bool, result: Result<T, Failure>) -> Result<T, Failure> {
    if let Err(failure) = &result
        && attest
    {
        attest::testify(session, failure);
    }
    result
}

fn wait_boot(session: &mut Session) -> Result<Boot, Failure> {
    loop {
        let Some(frame) = session.channel().wait_frame(None)? else {
            continue;
        };
        if frame.kind != Kind::Control {
            // Nothing is open yet: a stream of nobody's.
            continue;
        }
        return match FromHost::parse(&frame.payload).map_err(|e| Failure::protocol(e.name(), e))? {
            FromHost::Boot(boot) => Ok(*boot),
            FromHost::Bye | FromHost::Stop { .. } => Err(Failure::new("STOPPED", "stopped before the process ran")),
            other => Err(unexpected(&other)),
        };
    }
}

fn open_streams(session: &mut Session, run: &Run) -> Result<(), Failure> {
    let mut ids = vec![run.streams.stdin, run.streams.stdout, run.streams.stderr];
    ids.extend(run.mounts.iter().map(|m| m.stream));
    session.open(&ids)
}

type Mounts = (Vec<(crate::protocol::message::MountPoint, OwnedFd)>, Vec<(u32, OwnedFd)>);

/// Opens a FUSE device per mount: one copy for whoever mounts it, one to relay.
fn open_mounts(modules: &mut Modules, run: &Run) -> Result<Mounts, Failure> {
    let mut mounts = Vec::new();
    let mut devices = Vec::new();
    if !run.mounts.is_empty() {
        modules.load(Need::Mounts)?;
    }
    for mount in &run.mounts {
        let device = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .map_err(|e| Failure::guest(format_args!("cannot open /dev/fuse: {e}")))?;
        let device = OwnedFd::from(device);
        crate::process::set_nonblocking(&device);
        devices.push((mount.stream, device.try_clone().map_err(Failure::guest)?));
        mounts.push((mount.clone(), device));
    }
    Ok((mounts, devices))
}

/// Secrets come last: no variable of the host takes their place.
fn main_spec(manifest: &Manifest, run: &Run, secrets: &[String]) -> Spec {
    let process = &manifest.process;
    let mut argv = process.entrypoint.clone();
    argv.extend(run.args.as_ref().unwrap_or(&process.cmd).iter().cloned());
    let mut env = process.env.clone();
    env.extend(run.env.iter().cloned());
    env.extend(secrets.iter().cloned());
    Spec { argv, env, tty: run.tty, size: run.size, stdin: run.stdin }
}
