//! Where containers' processes come from: a zygote forks them ([`crate::init::zygote`]), one ahead of
//! the need, so that Create finds a process that is born and warm.
//!
//! The shim of one container keeps nobody beside it: the zygote ends with its first child.
//! That of a group keeps its zygote, and makes the next spare when a container has started. A zygote
//! that is gone is executed anew.

use super::talk::{Talk, is_lost};
use crate::init::zygote::{self, FromZygote, Namespace, ToZygote};
use crate::sys;
use crate::sys::channel::Channel;
use crate::sys::pidfd::PidFd;
use crate::sys::polled::watch;
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

/// A process that waits to be told what it shall become.
pub struct Newborn {
    /// Its pid on the host.
    pub pid: Pid,
    /// Readable once it has ended.
    pub pidfd: AsyncFd<PidFd>,
    /// The way to it.
    pub talk: Talk,
}

/// In which pid namespace a newborn shall live.
#[derive(Debug)]
pub enum Wanted {
    /// In the shim's.
    Inherit,
    /// As process 1 of one of its own.
    New,
    /// In an existing one.
    Join(File),
}

/// A zygote that was forked before there was a runtime.
pub struct First {
    control: Channel,
    process: PidFd,
}

/// Forks the zygote. To be called first of all: it shall know nothing.
///
/// # Errors
/// When it cannot be forked.
pub fn fork_zygote() -> io::Result<First> {
    let (control, theirs) = Channel::pair()?;
    match sys::fork::fork()? {
        Some(pid) => Ok(First { control, process: PidFd::open(pid)? }),
        None => zygote::run(theirs),
    }
}

/// Where children are asked for.
#[derive(Clone)]
pub struct Forks(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// Whether there will be more than one container.
    grouped: bool,
    /// The command line of a zygote that is executed, the name first.
    command: Vec<String>,
}

#[derive(Default)]
struct State {
    zygote: Option<Zygote>,
    spare: Option<Spare>,
}

struct Spare {
    namespace: Namespace,
    newborn: Newborn,
}

struct Zygote {
    talk: Talk,
    process: PidFd,
}

impl Forks {
    /// Asks `first`, and once that is gone what `command` executes; `grouped` says that more than
    /// one container is to be expected. Needs a runtime.
    ///
    /// # Errors
    /// When the zygote cannot be watched.
    pub fn new(first: First, grouped: bool, command: Vec<String>) -> io::Result<Self> {
        let zygote = Zygote { talk: Talk::new(first.control)?, process: first.process };
        let state = Mutex::new(State { zygote: Some(zygote), spare: None });
        Ok(Self(Arc::new(Inner { state, grouped, command })))
    }

    /// A newborn process.
    ///
    /// # Errors
    /// When none can be made.
    pub(super) async fn take(&self, wanted: Wanted) -> io::Result<Newborn> {
        let mut state = self.0.state.lock().await;
        let (namespace, file) = wanted.parts();
        if let Some(spare) = state.spare.take_if(|spare| spare.namespace == namespace)
            && spare.newborn.is_alive()
        {
            return Ok(spare.newborn);
        }
        let newborn = self.fork(&mut state, namespace, file.as_ref()).await;
        self.settle(&mut state);
        newborn
    }

    /// Makes a spare for a container that is to come; in the background.
    pub fn prepare(&self, wanted: &Wanted) {
        let namespace = match wanted {
            Wanted::Inherit => Namespace::Inherit,
            Wanted::New => Namespace::New,
            // It may be another one, or gone, by then.
            Wanted::Join(_) => return,
        };
        let forks = self.clone();
        tokio::spawn(async move { forks.make_spare(namespace).await });
    }

    /// The same for a container in a pid namespace of its own, at once.
    pub async fn prepare_now(&self) {
        self.make_spare(Namespace::New).await;
    }

    async fn make_spare(&self, namespace: Namespace) {
        let mut state = self.0.state.lock().await;
        if state.spare.is_none() {
            match self.fork(&mut state, namespace, None).await {
                Ok(newborn) => state.spare = Some(Spare { namespace, newborn }),
                Err(e) => log::warn!("no spare process: {e}"),
            }
        }
        self.settle(&mut state);
    }

    /// The same as [`Self::prepare`], where another container is to be expected.
    pub(super) fn prepare_next(&self, wanted: &Wanted) {
        if self.0.grouped {
            self.prepare(wanted);
        }
    }

    async fn fork(
        &self,
        state: &mut State,
        namespace: Namespace,
        file: Option<&File>,
    ) -> io::Result<Newborn> {
        if let Some(zygote) = &state.zygote {
            match zygote.fork(namespace, file, !self.0.grouped).await {
                Err(e) if is_lost(&e) => log::warn!("the zygote is gone, another is made: {e}"),
                forked => return forked,
            }
            state.let_go();
        }
        let zygote = state.zygote.insert(self.execute()?);
        zygote.fork(namespace, file, !self.0.grouped).await
    }

    fn execute(&self) -> io::Result<Zygote> {
        let (control, theirs) = Channel::pair()?;
        let (name, arguments) = self.0.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
        let child = Command::new("/proc/self/exe")
            .arg0(name)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let process = PidFd::open(Pid::from_raw(child.id() as i32))?;
        Ok(Zygote { talk: Talk::new(control)?, process })
    }

    fn settle(&self, state: &mut State) {
        if !self.0.grouped {
            state.let_go();
        }
    }
}

impl State {
    /// Ends the zygote, by the end of its control channel, and collects it.
    fn let_go(&mut self) {
        let Some(Zygote { talk, process }) = self.zygote.take() else { return };
        drop(talk);
        tokio::spawn(async move {
            if let Ok(process) = watch(process, Interest::READABLE) {
                let _ = process.readable().await;
                let _ = process.get_ref().try_wait();
            }
        });
    }
}

impl Wanted {
    fn parts(self) -> (Namespace, Option<File>) {
        match self {
            Self::Inherit => (Namespace::Inherit, None),
            Self::New => (Namespace::New, None),
            Self::Join(file) => (Namespace::Join, Some(file)),
        }
    }
}

impl Newborn {
    /// Whether it lives; one that does not is collected.
    fn is_alive(&self) -> bool {
        matches!(self.pidfd.get_ref().try_wait(), Ok(None))
    }
}

impl Zygote {
    async fn fork(
        &self,
        namespace: Namespace,
        file: Option<&File>,
        last: bool,
    ) -> io::Result<Newborn> {
        let (ours, theirs) = Channel::pair()?;
        let fds: Vec<_> = [theirs.as_fd()].into_iter().chain(file.map(AsFd::as_fd)).collect();
        // Only as long as it takes: those that hooks leave behind are not this process's to collect.
        sys::process::adopt_orphans(true)?;
        let sent = self.talk.send(&ToZygote::Fork { namespace, last }, &fds).await;
        drop(theirs);
        let reply = match sent {
            Ok(()) => self.talk.receive().await,
            Err(e) => Err(e),
        };
        sys::process::adopt_orphans(false)?;
        let (reply, mut fds) = reply?;
        match (reply, fds.pop()) {
            (FromZygote::Forked { pid }, Some(pidfd)) => Ok(Newborn {
                pid: Pid::from_raw(pid),
                pidfd: watch(PidFd::from(pidfd), Interest::READABLE).map_err(|(_, e)| e)?,
                talk: Talk::new(ours)?,
            }),
            (FromZygote::Failed(words), _) => Err(io::Error::other(words)),
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}
