//! The container's process, from the fork to the guest's end.
//!
//! It starts as a copy of the shim and gives up, step by step, all that it has from it: descriptors,
//! namespaces, the host's files, the root user. It waits at two gates: for its control group before
//! it does anything, and for Start before the guest runs. Until then it can fail with an error that
//! Create answers with; after that it is the guest, and holds nothing of the shim.

mod messages;

pub use messages::{Failure, FromInit, Need, Reason, ToInit, receive, send};

use crate::cgroup;
use crate::sandbox::{self, hooks, namespaces, privileges, rootfs};
use crate::spec::{Mount, Plan};
use crate::sys;
use crate::sys::channel::Channel;
use crate::{guest, image};
use artifact::digest::Digest;
use artifact::engine::{Compatibility, Engine};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxNamespaceType as Kind;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{self, AssertUnwindSafe, catch_unwind};

/// All that a container's process takes along from the shim.
pub struct Seed {
    /// What it shall become.
    pub plan: Plan,
    /// What its rootfs is mounted from; empty when the plan's folder is it.
    pub rootfs: Vec<Mount>,
    /// Its standard streams.
    pub streams: [OwnedFd; 3],
    /// Its end of the talk with the shim.
    pub channel: Channel,
}

/// Is the container's process; never returns. For the child of a fork.
pub fn run(seed: Seed) -> ! {
    let code = catch_unwind(AssertUnwindSafe(|| live(seed))).unwrap_or(1);
    sys::process::exit_now(code)
}

fn live(seed: Seed) -> i32 {
    let Seed { plan, rootfs, streams, channel } = seed;
    // The shim's log is not this process's; a panic is told on the container's standard error.
    log::set_max_level(log::LevelFilter::Off);
    drop(panic::take_hook());
    if let Err(e) = take_descriptors(&channel, &streams) {
        let _ = send(&channel, &FromInit::Failed(e.into()), None);
        return 1;
    }
    // Closed with all the others, under the eyes of their owner.
    mem::forget(streams);
    match prepare(&plan, &rootfs, &channel) {
        Ok(guest) => match wait_for_start(&plan, &channel) {
            Ok(()) => {
                // The last that connects this process with the shim.
                drop(channel);
                guest.run()
            }
            Err(_) => 1,
        },
        Err(failure) => {
            let _ = send(&channel, &FromInit::Failed(failure), None);
            1
        }
    }
}

/// Keeps the container's streams and the way to the shim, nothing else.
fn take_descriptors(channel: &Channel, streams: &[OwnedFd; 3]) -> io::Result<()> {
    for (target, stream) in (0..).zip(streams) {
        sys::fd::become_standard(stream.as_fd(), target)?;
    }
    sys::fd::close_all_but(&[channel.as_fd()])
}

fn prepare(plan: &Plan, parts: &[Mount], channel: &Channel) -> Result<guest::Guest, Failure> {
    // Until it has nothing left of the shim, nobody of a joined namespace may look into it.
    nix::sys::prctl::set_dumpable(false).map_err(io::Error::from)?;
    // While the shim makes the control group.
    let engine = artifact::engine::engine()
        .map_err(|e| Failure::new(Reason::Internal, format!("cannot make an engine: {e:#}")))?;
    let ToInit::Go { pid, cgroup } = receive(channel)?.0 else {
        return Err(out_of_order());
    };
    cgroup.join()?;
    let user = namespaces::open(&plan.isolation, Kind::User)?;
    nix::unistd::setsid().map_err(io::Error::from)?;
    sys::signal::end_when_told().map_err(io::Error::from)?;
    sys::process::set_title(&plan.process.args)?;
    sys::net::pin_resolver()?;
    for warning in privileges::set_limits(&plan.process)? {
        send(channel, &FromInit::Warning(warning), None)?;
    }
    namespaces::enter(&plan.isolation)?;
    let root = rootfs::mount_all(plan, parts)?;
    creation_hooks(plan, channel, Pid::from_raw(pid))?;
    let loaded = load(plan, channel, &engine, &root)?;
    rootfs::pivot(root.as_fd(), plan.isolation.propagation)?;
    enter_user_namespace(plan, channel, user.as_ref())?;
    privileges::drop_to(&plan.process)?;
    let guest = guest::Guest::new(loaded, plan)
        .map_err(|e| Failure::new(Reason::Internal, format!("{e:#}")))?;
    // Landlock and seccomp stand here, once all that they forbid is done.
    send(channel, &FromInit::Ready, None)?;
    Ok(guest)
}

/// The hooks before pivot_root: the shim runs those of its side, this process its own.
fn creation_hooks(plan: &Plan, channel: &Channel, pid: Pid) -> Result<(), Failure> {
    let hooks = &plan.hooks;
    if !hooks.create_runtime.is_empty() {
        send(channel, &FromInit::Created, None)?;
        let ToInit::HooksDone = receive(channel)?.0 else {
            return Err(out_of_order());
        };
    }
    let state = hooks::state(plan, "creating", Some(pid));
    hooks::run_all(&hooks.create_container, &state)?;
    Ok(())
}

/// Opens the entrypoint, gets its compiled code from the shim, maps and links it. Code of the cache
/// that turns out damaged is made anew, once.
fn load(
    plan: &Plan,
    channel: &Channel,
    engine: &Engine,
    root: &OwnedFd,
) -> Result<guest::Loaded, Failure> {
    let entry = &plan.process.entry;
    let wasm = image::open(root.as_fd(), entry)?;
    let digest = Digest::of_reader(&wasm)?.to_string();
    let engine_name = Compatibility::of(engine).to_string();
    let mut again = false;
    loop {
        let need = FromInit::NeedCode(Need {
            engine: engine_name.clone(),
            digest: digest.clone(),
            word: entry.word.clone(),
            again,
        });
        send(channel, &need, Some(wasm.as_fd()))?;
        let (ToInit::Code, Some(code)) = receive(channel)? else {
            return Err(out_of_order());
        };
        match guest::Loaded::new(engine, &File::from(code), entry.export.as_deref()) {
            Err(guest::Error::Code(_)) if !again => again = true,
            Err(e) => {
                let words = format!("cannot run {}: {e}", entry.word);
                return Err(Failure::new(Reason::Unusable, words));
            }
            Ok(loaded) => return Ok(loaded),
        }
    }
}

fn enter_user_namespace(
    plan: &Plan,
    channel: &Channel,
    joined: Option<&File>,
) -> Result<(), Failure> {
    let isolation = &plan.isolation;
    if !namespaces::has_user(isolation) {
        return Ok(());
    }
    namespaces::enter_user(isolation, joined)?;
    if joined.is_none() {
        send(channel, &FromInit::MapIds, None)?;
        let ToInit::IdsMapped = receive(channel)?.0 else {
            return Err(out_of_order());
        };
    }
    Ok(())
}

/// The second gate, and what lies between it and the guest.
fn wait_for_start(plan: &Plan, channel: &Channel) -> Result<(), Failure> {
    let ToInit::Start { pid } = receive(channel)?.0 else {
        return Err(out_of_order());
    };
    let state = hooks::state(plan, "created", Some(Pid::from_raw(pid)));
    if let Err(e) = hooks::run_all(&plan.hooks.start_container, &state) {
        let failure = Failure::from(e);
        send(channel, &FromInit::Failed(failure.clone()), None)?;
        return Err(failure);
    }
    // Hooks would inherit this, guests cannot.
    sys::signal::ignore_the_rest();
    send(channel, &FromInit::Running, None)?;
    Ok(())
}

fn out_of_order() -> Failure {
    Failure::new(Reason::Internal, "the shim's messages are out of order")
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Reason::Internal, error.to_string())
    }
}

impl From<cgroup::Error> for Failure {
    fn from(error: cgroup::Error) -> Self {
        Self::new(Reason::Internal, error.to_string())
    }
}

impl From<sandbox::Error> for Failure {
    fn from(error: sandbox::Error) -> Self {
        Self::new(Reason::Internal, error.to_string())
    }
}

impl From<hooks::Error> for Failure {
    fn from(error: hooks::Error) -> Self {
        Self::new(Reason::Internal, error.to_string())
    }
}

impl From<image::Error> for Failure {
    fn from(error: image::Error) -> Self {
        let reason = match error {
            image::Error::NotFound(_) | image::Error::NoSuchFile(_) => Reason::NotFound,
            _ => Reason::Unusable,
        };
        Self::new(reason, error.to_string())
    }
}
