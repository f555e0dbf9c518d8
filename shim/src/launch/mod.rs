//! How a container's process is made: taken from the newborn, led through its preparation, and ready
//! at the gate, or gone without a trace.

mod child;
mod code;
mod compiler;
mod exec;
mod fork;
mod layer;
mod saved;
mod streams;
mod talk;
mod terminal;
mod vouch;

pub use child::{ROLE, in_role};
pub use code::{Choice, Code, Compiler};
pub use compiler::{BACKGROUND, NOTE, UNUSABLE};
pub use exec::{Exec, Target};
pub use fork::{First, Forks, Wanted, fork_zygote};
pub use layer::{ANY, Answer, Containerd};
pub use saved::Saved;
pub use streams::{Paths, Streams};
pub use terminal::Terminal;
pub use vouch::{FORBIDDEN, Signed, Trusted, way_to_registries};

use crate::cgroup::{self, Cgroup, Location};
use crate::init::{Failure, FromInit, Reason, Seed, ToInit};
use crate::sandbox::{self, hooks, namespaces};
use crate::spec::{Isolation, Plan, RootfsPart};
use crate::sys::pidfd::PidFd;
use crate::sys::polled::watch;
use fork::Newborn;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxNamespaceType as Kind;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;
use talk::{Talk, is_lost};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Why a container could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Its own process says so.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// Its control group.
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// A hook of the host's side.
    #[error(transparent)]
    Hook(#[from] hooks::Error),
    /// A namespace.
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    /// A stream.
    #[error("cannot open the container's {name} {path}: {source}")]
    Stream {
        /// stdin, stdout or stderr.
        name: &'static str,
        /// Its path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A terminal.
    #[error("cannot make a terminal: {0}")]
    Terminal(io::Error),
    /// Something that is asked for and not there yet.
    #[error("not implemented yet: {0}")]
    NotYet(&'static str),
    /// The system.
    #[error("the container's process: {0}")]
    Io(#[from] io::Error),
}

/// A container's process, its control group, and the way to its gate.
pub struct Init {
    /// Its pid on the host.
    pub pid: Pid,
    /// Its control group.
    pub cgroup: Cgroup,
    /// Readable once it has ended.
    pub pidfd: AsyncFd<PidFd>,
    /// A writer of its standard input, so that it ends when containerd says so and not before.
    pub stdin: Option<OwnedFd>,
    /// Its terminal, if it has one.
    pub terminal: Option<Terminal>,
    talk: Option<Talk>,
    forks: Forks,
    /// What another container would want that is like this one.
    wanted: Wanted,
}

/// What it takes to make containers' processes.
#[derive(Clone)]
pub struct Launcher {
    forks: Forks,
    code: Code,
}

impl Launcher {
    /// Makes processes at `forks` that run code of `code`.
    pub fn new(forks: Forks, code: Code) -> Self {
        Self { forks, code }
    }

    /// Makes the process of `plan` and leads it to the gate; without a `location` it stays in the
    /// control groups of the caller. When that fails, nothing is left of it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn create(
        &self,
        plan: &Plan,
        location: Option<&Location>,
        rootfs: Vec<RootfsPart>,
        paths: &Paths,
        choice: &Choice,
    ) -> Result<Init, Error> {
        let Streams { inherited, stdin, terminal } = Streams::open(paths, &plan.process)?;
        let newborn = self.forks.take(wanted(&plan.isolation)?).await?;
        let seed = Seed {
            id: plan.id.clone(),
            bundle: plan.bundle.clone(),
            rootfs,
            max_guest_memory: plan.max_guest_memory,
        };
        let streams = inherited.each_ref().map(|stream| stream.as_fd());
        let Newborn { pid, pidfd, talk } = newborn;
        let made = match talk.tell(&ToInit::Become(seed), &streams).await {
            Ok(()) => match location {
                Some(at) => Cgroup::create(at, &plan.resources, pid).map_err(Error::from),
                None => Ok(Cgroup::none()),
            },
            Err(e) => Err(e.into()),
        };
        drop(inherited);
        let cgroup = match made {
            Ok(cgroup) => cgroup,
            Err(e) => {
                end(&pidfd).await;
                return Err(e);
            }
        };
        let wanted = wanted(&plan.isolation)?;
        let forks = self.forks.clone();
        let mut init = Init { pid, cgroup, pidfd, stdin, terminal, talk: None, forks, wanted };
        match self.lead(plan, &mut init, talk, choice).await {
            Ok(()) => Ok(init),
            Err(error) => Err(init.undo(error, &plan.bundle).await),
        }
    }

    /// Answers what the process asks for until it stands at the gate.
    async fn lead(
        &self,
        plan: &Plan,
        init: &mut Init,
        talk: Talk,
        choice: &Choice,
    ) -> Result<(), Error> {
        Saved::write(&plan.bundle, init)?;
        let pid = init.pid.as_raw();
        talk.tell(&ToInit::Go { pid, cgroup: init.cgroup.clone() }, &[]).await?;
        self.answer(plan, init.pid, &talk, choice).await?;
        init.talk = Some(talk);
        Ok(())
    }

    async fn answer(
        &self,
        plan: &Plan,
        pid: Pid,
        talk: &Talk,
        choice: &Choice,
    ) -> Result<(), Error> {
        loop {
            let (message, mut fds) = talk.receive().await?;
            match message {
                FromInit::Warning(words) => log::warn!("{}: {words}", plan.id),
                FromInit::Created => {
                    let state = hooks::state(plan, "creating", Some(pid));
                    run_hooks(&plan.hooks.create_runtime, &state).await?;
                    talk.tell(&ToInit::HooksDone, &[]).await?;
                }
                FromInit::NeedCode(need) => {
                    let code = self.code.get(&plan.id, need, fds.pop(), choice).await?;
                    talk.tell(&ToInit::Code(code.tier), &[code.file.as_fd()]).await?;
                }
                FromInit::MapIds => {
                    namespaces::map_ids(&plan.isolation, pid)?;
                    talk.tell(&ToInit::IdsMapped, &[]).await?;
                }
                FromInit::Ready => return Ok(()),
                FromInit::Failed(failure) => return Err(failure.into()),
                FromInit::Running => return Err(out_of_order().into()),
            }
        }
    }
}

fn out_of_order() -> io::Error {
    io::Error::other("the process's messages are out of order")
}

impl Init {
    /// Opens the gate and waits until the guest is about to run.
    ///
    /// # Errors
    /// When the process is gone, or a startContainer hook failed.
    pub async fn start(&mut self) -> Result<(), Error> {
        let Some(talk) = self.talk.take() else {
            return Err(io::Error::other("it was started before").into());
        };
        open_gate(&talk, self.pid).await?;
        // Now, and not while this one was waited for.
        self.forks.prepare_next(&self.wanted);
        Ok(())
    }

    /// Removes all trace of a process that did not reach the gate, and says why it did not: one
    /// that was killed could not say so itself.
    async fn undo(self, error: Error, bundle: &Path) -> Error {
        let killed = is_gone(&error);
        let out_of_memory = self.cgroup.oom_kills() > Some(0);
        end(&self.pidfd).await;
        // A hook may have left processes; what cannot be undone now is left to `delete`.
        match self.cgroup.end_all().and_then(|()| self.cgroup.delete()) {
            Ok(()) => Saved::remove(bundle),
            Err(e) => log::warn!("{e}"),
        }
        match (killed, out_of_memory) {
            (true, true) => Failure::new(
                Reason::Unusable,
                "the memory limit is too low for the container to start: the kernel killed it; raise the limit",
            )
            .into(),
            (true, false) => Failure::new(
                Reason::Internal,
                "the container's process was killed before its program could run",
            )
            .into(),
            _ => error,
        }
    }
}

async fn open_gate(talk: &Talk, pid: Pid) -> Result<(), Error> {
    talk.tell(&ToInit::Start { pid: pid.as_raw() }, &[]).await?;
    match talk.receive().await?.0 {
        FromInit::Failed(failure) => Err(failure.into()),
        _ => Ok(()),
    }
}

/// Whether the other side is gone, which could not say why.
pub fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io(e) if is_lost(e))
}

fn wanted(isolation: &Isolation) -> Result<Wanted, sandbox::Error> {
    Ok(match namespaces::open(isolation, Kind::Pid)? {
        Some(file) => Wanted::Join(file),
        None if isolation.is_new(Kind::Pid) => Wanted::New,
        None => Wanted::Inherit,
    })
}

/// Kills a child and collects it.
async fn end(pidfd: &AsyncFd<PidFd>) {
    let _ = pidfd.get_ref().kill(libc::SIGKILL);
    let _ = pidfd.readable().await;
    let _ = pidfd.get_ref().try_wait();
}

/// Runs hooks of the host's side one after the other, without holding up other containers.
///
/// # Errors
/// The first that fails; those after it are not run.
pub async fn run_hooks(list: &[oci_spec::runtime::Hook], state: &str) -> Result<(), hooks::Error> {
    for hook in list {
        let running = hooks::Running::start(hook, state)?;
        let timeout = running.timeout.unwrap_or(Duration::MAX);
        let ended = async {
            if let Ok(fd) = watch(running.pidfd.as_fd(), Interest::READABLE) {
                let _ = fd.readable().await;
            }
        };
        match tokio::time::timeout(timeout, ended).await {
            Ok(()) => running.finish()?,
            Err(_) => return Err(running.give_up()),
        }
    }
    Ok(())
}
