//! The container's process, from the fork to the guest's end.
//!
//! It starts as a copy of the zygote and gives up, step by step, all that it has: descriptors,
//! namespaces, the host's files, the root user. It waits to be told what it shall become, and then at
//! two gates: for its control group before it does anything, and for Start before the guest runs.
//! Until then it can fail with an error that Create answers with; after that it is the guest, and
//! holds nothing of the shim.

mod built_in;
mod exec;
mod load;
mod messages;
mod shell;
pub mod zygote;

pub use messages::{Failure, FromInit, Need, Order, Reason, Seed, ToInit, Wasm, receive, send};

use crate::sandbox::{self, hooks, namespaces, privileges, rootfs};
use crate::spec::{self, Mount, Plan, Process};
use crate::sys;
use crate::sys::channel::Channel;
use crate::{cgroup, guest};
use artifact::engine::{Compatibility, Tier};
use nix::unistd::Pid;
use oci_spec::runtime::{Hook, LinuxNamespaceType as Kind};
use std::cell::OnceCell;
use std::fs::File;
use std::io::{self, IsTerminal};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What is made once, ahead, for all processes that are forked from one zygote.
#[derive(Default)]
struct Warm(OnceCell<Tools>);

struct Tools {
    compatibility: Compatibility,
    linkers: guest::Linkers,
}

impl Warm {
    /// What any guest needs.
    fn tools(&self) -> Result<&Tools, Failure> {
        if let Some(tools) = self.0.get() {
            return Ok(tools);
        }
        let linkers = load::linkers(Tier::Optimized)?;
        let compatibility = Compatibility::of(linkers.engine());
        Ok(self.0.get_or_init(|| Tools { compatibility, linkers }))
    }

    /// What any guest needs, and what only some do.
    fn all(&self) -> Result<(), Failure> {
        let made = self.tools()?.linkers.make_all();
        made.map_err(|e| Failure::new(Reason::Internal, e.to_string()))
    }
}

/// Is a newborn process; never returns. For the child of a fork of the zygote.
fn run(channel: Channel, warm: &Warm) -> ! {
    let code = catch_unwind(AssertUnwindSafe(|| live(channel, warm))).unwrap_or(1);
    sys::process::exit_now(code)
}

fn live(channel: Channel, warm: &Warm) -> i32 {
    let born = sys::fd::close_all_but(&[channel.as_fd()])
        .and_then(|()| Ok(nix::unistd::setsid()?))
        .and_then(|_| {
            // While nobody waits for this process. What fails here is told when it is needed.
            let _ = warm.tools();
            receive(&channel)
        });
    let program = match born {
        Ok((ToInit::Become(seed), fds)) => become_container(&seed, fds, &channel, warm),
        Ok((ToInit::Exec(order), fds)) => exec::prepare(&order, fds, &channel, warm),
        // Nobody needs it after all, or nobody is left.
        _ => return 1,
    };
    match program {
        Ok(program) => {
            // The last that connects this process with the shim.
            drop(channel);
            program()
        }
        Err(failure) => {
            let _ = send(&channel, &FromInit::Failed(failure), &[]);
            1
        }
    }
}

/// What runs behind the last gate, and gives the exit code.
type Program = Box<dyn FnOnce() -> i32>;

fn become_container(
    seed: &Seed,
    streams: Vec<OwnedFd>,
    channel: &Channel,
    warm: &Warm,
) -> Result<Program, Failure> {
    take_streams(&streams)?;
    drop(streams);
    // The shim has found it to be good.
    let mut plan = spec::read(&seed.bundle, &seed.id)?;
    plan.max_guest_memory = seed.max_guest_memory;
    let parts: Vec<Mount> = seed.rootfs.iter().map(Mount::of_rootfs).collect();
    sys::process::set_title(&plan.process.args)?;
    let user = namespaces::open(&plan.isolation, Kind::User)?;
    // While the shim makes the control group.
    namespaces::enter(&plan.isolation)?;
    let (ToInit::Go { pid, cgroup }, _) = receive(channel)? else {
        return Err(out_of_order());
    };
    cgroup.join()?;
    namespaces::enter_cgroup(&plan.isolation)?;
    set_limits(&plan.process, channel)?;
    let root = rootfs::mount_all(&plan, &parts)?;
    creation_hooks(&plan, channel, Pid::from_raw(pid))?;
    let wasm = load::find(root.as_fd(), &plan.process.entry)?;
    let loaded = load::load(&plan, wasm, channel, warm)?;
    let groups_are_fixed = sys::process::groups_are_fixed()?;
    rootfs::pivot(root.as_fd(), plan.isolation.propagation)?;
    drop(root);
    enter_user_namespace(&plan, channel, user.as_ref())?;
    privileges::drop_to(&plan.process, groups_are_fixed)?;
    let guest = guest(loaded, &plan)?;
    // Landlock and seccomp stand here, once all that they forbid is done.
    wait_for_start(channel)?;
    let state = hooks::state(&plan, "created", Some(Pid::from_raw(pid)));
    run_own_hooks(&plan.hooks.start_container, &state)?;
    begin(channel)?;
    Ok(Box::new(|| guest.run()))
}

/// Takes the streams; a terminal becomes that of this process's session.
fn take_streams(streams: &[OwnedFd]) -> Result<(), Failure> {
    let [stdin, _, _] = streams else {
        return Err(out_of_order());
    };
    for (target, stream) in (0..).zip(streams) {
        sys::fd::become_standard(stream.as_fd(), target)?;
    }
    if stdin.is_terminal() {
        sys::pty::control(stdin.as_fd())?;
    }
    Ok(())
}

fn set_limits(process: &Process, channel: &Channel) -> Result<(), Failure> {
    for warning in privileges::set_limits(process)? {
        send(channel, &FromInit::Warning(warning), &[])?;
    }
    Ok(())
}

fn guest(loaded: guest::Loaded, plan: &Plan) -> Result<guest::Guest, Failure> {
    guest::Guest::new(loaded, plan).map_err(|e| Failure::new(Reason::Internal, format!("{e:#}")))
}

/// The hooks before pivot_root: the shim runs those of its side, this process its own.
fn creation_hooks(plan: &Plan, channel: &Channel, pid: Pid) -> Result<(), Failure> {
    let hooks = &plan.hooks;
    if !hooks.create_runtime.is_empty() {
        send(channel, &FromInit::Created, &[])?;
        let (ToInit::HooksDone, _) = receive(channel)? else {
            return Err(out_of_order());
        };
    }
    run_own_hooks(&hooks.create_container, &hooks::state(plan, "creating", Some(pid)))
}

/// Runs hooks in the container, which shall not inherit what signals do to a guest.
fn run_own_hooks(list: &[Hook], state: &str) -> Result<(), Failure> {
    if list.is_empty() {
        return Ok(());
    }
    sys::signal::heed_the_rest();
    let done = hooks::run_all(list, state);
    sys::signal::ignore_the_rest();
    Ok(done?)
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
        send(channel, &FromInit::MapIds, &[])?;
        let (ToInit::IdsMapped, _) = receive(channel)? else {
            return Err(out_of_order());
        };
    }
    Ok(())
}

/// The second gate.
fn wait_for_start(channel: &Channel) -> Result<(), Failure> {
    send(channel, &FromInit::Ready, &[])?;
    match receive(channel)? {
        (ToInit::Start { .. }, _) => Ok(()),
        _ => Err(out_of_order()),
    }
}

/// The last step before the program.
fn begin(channel: &Channel) -> Result<(), Failure> {
    send(channel, &FromInit::Running, &[])?;
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

impl From<spec::Error> for Failure {
    fn from(error: spec::Error) -> Self {
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
